//! The pure core: it decides, and knows no AWS, no process, no clock, no logging and no runtime.

mod agent;
mod exit;
mod policy;
mod schedule;
mod time;

pub use agent::{Action, Agent, Answer, Cause, Event, Job, LAST_WAIT, State};
pub use exit::Exit;
pub use policy::{AfterTerminate, Policy, Runner};
pub use schedule::{Class, Fault, Roll, Schedule};
pub use time::Time;
