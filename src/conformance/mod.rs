//! Public test suites for implementors of the extension traits.
