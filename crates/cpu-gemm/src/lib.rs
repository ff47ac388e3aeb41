//! Blocked matrix product on the CPU whose operands come through a packing trait, with one summation order for every shape and thread count
