//! The journal of one process, in memory.
/// Stub.
pub struct MemoryNonceStore;
