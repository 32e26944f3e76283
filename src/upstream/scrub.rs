//! What passes between a client and an upstream, and what does not.
