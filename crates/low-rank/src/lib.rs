//! Truncated SVD of a linear operator by randomized block Krylov, with what is known of its error
