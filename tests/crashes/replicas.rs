//! Several gateways on one journal.
