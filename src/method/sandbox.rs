//! Stub.
/// Stub.
pub struct Sandbox;
/// Stub.
pub struct SandboxKey;
