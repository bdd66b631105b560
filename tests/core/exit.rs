//! Exit statuses, as a shell has them.

use std::process::ExitCode;

use taskbeat::core::Exit;

#[test]
fn a_signal_makes_a_status_over_128() {
    for (number, status) in [(1, 129), (15, 143), (127, 255), (200, 255)] {
        let exit = Exit::by_signal(number);
        assert_eq!(exit, Exit(status));
        assert!(exit.is_by_signal());
    }
    for status in [0, 1, 127, 128] {
        assert!(!Exit(status).is_by_signal(), "{status}");
    }
    assert_eq!(ExitCode::from(Exit(143)), ExitCode::from(143));
}
