//! The hints file beside a `.part` file.
