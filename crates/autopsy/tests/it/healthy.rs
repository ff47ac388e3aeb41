//! No false alarm, and the same report whatever the threads.
