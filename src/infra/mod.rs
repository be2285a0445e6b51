//! What the infrastructure has to allow, rendered from the configuration as typed values. Deliberately absent: making any of it.

pub mod policy;
mod policy_ecs;
mod policy_migrations;
pub mod verify;
