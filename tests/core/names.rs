//! What the log and the status call the values of the core.

use taskbeat::core::{Cause, FailureClass};

#[test]
fn failure_classes() {
    let classes = [FailureClass::Transient, FailureClass::Throttled, FailureClass::Rejected];
    assert_eq!(classes.map(|class| class.to_string()), ["transient", "throttled", "rejected"]);
}

#[test]
fn causes_of_a_stop() {
    let causes = [Cause::Ended, Cause::Operator, Cause::LostContact, Cause::Terminate];
    let names = ["the leader exited", "stop requested", "contact lost", "terminate received"];
    assert_eq!(causes.map(|cause| cause.to_string()), names);
}
