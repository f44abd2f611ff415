//! What engines on one host share.
