//! What the infrastructure has to allow, rendered from the configuration as typed values. Deliberately absent: making any of it.

pub mod policy;
pub mod verify;
