//! The pure core: every decision, and the laws that hold whatever happens.

mod laws;
mod month;
mod schedule;
mod soak;
mod table;
