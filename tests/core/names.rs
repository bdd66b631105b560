//! What the log and the status call the values of the core.

use taskbeat::core::FailureClass;

#[test]
fn failure_classes() {
    let classes = [FailureClass::Transient, FailureClass::Throttled, FailureClass::Rejected];
    assert_eq!(classes.map(|class| class.to_string()), ["transient", "throttled", "rejected"]);
}
