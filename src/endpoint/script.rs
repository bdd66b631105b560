//! The script: what the endpoint answers, request by request.

use std::fmt;
use std::str::FromStr;

/// The longest script: how many steps it may have, repetitions counted.
const MAX_STEPS: usize = 10_000;

/// What the endpoint does with one heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Acknowledges it: `terminate` is false.
    Ok,
    /// Refuses it for the account's rate: `ThrottlingException`.
    Throttle,
    /// Fails: `InternalServiceError`, status 500.
    Error,
    /// Accepts it and never answers; the connection lives until the client closes it.
    Hang,
    /// Refuses it for want of permission: `AccessDeniedException`.
    Reject,
    /// Resets the connection when half of the answer is out.
    Reset,
    /// Answers as a captive portal does: status 200 and a page of HTML.
    Html,
    /// Acknowledges it and tells the runner to end: `terminate` is true.
    Terminate,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Ok,
        Self::Throttle,
        Self::Error,
        Self::Hang,
        Self::Reject,
        Self::Reset,
        Self::Html,
        Self::Terminate,
    ];

    /// The word that stands for it in a script.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttle => "throttle",
            Self::Error => "error",
            Self::Hang => "hang",
            Self::Reject => "reject",
            Self::Reset => "reset",
            Self::Html => "html",
            Self::Terminate => "terminate",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A script of 1 to 10 000 steps, such as `ok*3,throttle,error,hang,reject,terminate`.
///
/// Steps are separated by commas, with or without whitespace around them; `*N` repeats a step.
/// `terminate` comes last and once: the service goes on saying it, so nothing could follow.
/// It is printed in one canonical form: no whitespace, equal neighbours joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

impl Script {
    /// The steps in the order in which they are played, each as often as it is repeated.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What answers the request that comes after `played` others: beyond the script's end this is
    /// [`Step::Terminate`] if the script ends with it, [`Step::Ok`] if not.
    #[must_use]
    pub fn step(&self, played: usize) -> Step {
        let goes_on_saying_it = self.steps.last() == Some(&Step::Terminate);
        let after_the_end = if goes_on_saying_it {
            Step::Terminate
        } else {
            Step::Ok
        };
        self.steps.get(played).copied().unwrap_or(after_the_end)
    }
}

/// Why a text is not a [`Script`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A word that is not a step; an empty one stands for an empty script or a stray comma.
    #[error("`{0}` is not a step; allowed are {all}", all = Step::ALL.map(Step::name).join(", "))]
    UnknownStep(String),
    /// A repetition that is not a number from 1 to 10 000.
    #[error("`{0}`: a step is repeated by `*` and a number from 1 to {MAX_STEPS}, as in `ok*3`")]
    BadRepetition(String),
    /// More than 10 000 steps in all.
    #[error("`{0}` makes the script too long; allowed are {MAX_STEPS} steps in all")]
    TooLong(String),
    /// Something after `terminate`.
    #[error("`{0}` cannot follow `terminate`, which the service goes on saying")]
    AfterTerminate(String),
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut steps = Vec::new();
        for word in text.split(',').map(str::trim) {
            let (name, repetition) = match word.split_once('*') {
                Some((name, digits)) => (name, parse_repetition(word, digits)?),
                None => (word, 1),
            };
            let Some(step) = Step::ALL.into_iter().find(|step| step.name() == name) else {
                return Err(ScriptError::UnknownStep(name.to_owned()));
            };
            let repeats_terminate = step == Step::Terminate && repetition > 1;
            if repeats_terminate || steps.last() == Some(&Step::Terminate) {
                return Err(ScriptError::AfterTerminate(word.to_owned()));
            }
            if steps.len() + repetition > MAX_STEPS {
                return Err(ScriptError::TooLong(word.to_owned()));
            }
            steps.extend(std::iter::repeat_n(step, repetition));
        }
        Ok(Self { steps })
    }
}

/// Digits only: `usize` itself would also take a sign.
fn parse_repetition(word: &str, digits: &str) -> Result<usize, ScriptError> {
    digits
        .parse()
        .ok()
        .filter(|n| (1..=MAX_STEPS).contains(n) && digits.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| ScriptError::BadRepetition(word.to_owned()))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.steps.chunk_by(PartialEq::eq).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [] => {}
                [step] => write!(f, "{comma}{step}")?,
                [step, ..] => write!(f, "{comma}{step}*{}", run.len())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn script(text: &str) -> Script {
        text.parse().unwrap()
    }

    #[test]
    fn the_script_of_the_manual_is_read_step_by_step() {
        use Step::{Error, Hang, Ok, Reject, Terminate, Throttle};
        let script = script("ok*3,throttle,error,hang,reject,terminate");
        let expected = [Ok, Ok, Ok, Throttle, Error, Hang, Reject, Terminate];
        assert_eq!(script.steps(), expected);
    }

    #[test]
    fn it_is_printed_in_canonical_form() {
        let cases = [
            (" ok , ok*2,\thtml*1,reset ", "ok*3,html,reset"),
            ("ok,error,ok", "ok,error,ok"),
            ("hang*10000", "hang*10000"),
            ("throttle*007", "throttle*7"),
        ];
        for (text, canonical) in cases {
            assert_eq!(script(text).to_string(), canonical);
        }
    }

    #[test]
    fn beyond_the_end_it_is_ok_but_terminate_stays() {
        let without = script("error");
        assert_eq!(
            [0, 1, 999].map(|n| without.step(n)),
            [Step::Error, Step::Ok, Step::Ok]
        );
        let with = script("error,terminate");
        let expected = [
            Step::Error,
            Step::Terminate,
            Step::Terminate,
            Step::Terminate,
        ];
        assert_eq!([0, 1, 2, 999].map(|n| with.step(n)), expected);
    }

    #[test]
    fn errors_name_the_word_and_what_is_allowed() {
        let steps = "allowed are ok, throttle, error, hang, reject, reset, html, terminate";
        let number = "a step is repeated by `*` and a number from 1 to 10000, as in `ok*3`";
        let long = "makes the script too long; allowed are 10000 steps in all";
        let last = "cannot follow `terminate`, which the service goes on saying";
        let cases = [
            ("", format!("`` is not a step; {steps}")),
            ("ok,,ok", format!("`` is not a step; {steps}")),
            ("ok,", format!("`` is not a step; {steps}")),
            ("ok,oops*2", format!("`oops` is not a step; {steps}")),
            ("OK", format!("`OK` is not a step; {steps}")),
            ("ok *2", format!("`ok ` is not a step; {steps}")),
            ("ok*", format!("`ok*`: {number}")),
            ("ok*0", format!("`ok*0`: {number}")),
            ("ok*+3", format!("`ok*+3`: {number}")),
            ("ok*2*2", format!("`ok*2*2`: {number}")),
            ("ok*10001", format!("`ok*10001`: {number}")),
            (
                "ok*99999999999999999999",
                format!("`ok*99999999999999999999`: {number}"),
            ),
            ("ok,error*10000", format!("`error*10000` {long}")),
            ("terminate,ok*2", format!("`ok*2` {last}")),
            ("terminate*2", format!("`terminate*2` {last}")),
        ];
        for (text, message) in cases {
            assert_eq!(
                text.parse::<Script>().unwrap_err().to_string(),
                message,
                "{text:?}"
            );
        }
    }

    prop_compose! {
        fn any_script()(
            mut steps in prop::collection::vec(prop::sample::select(&Step::ALL[..7]), 1..50),
            terminate: bool,
        ) -> Script {
            steps.extend(terminate.then_some(Step::Terminate));
            Script { steps }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same(script in any_script()) {
            prop_assert_eq!(script.to_string().parse(), Ok(script));
        }

        #[test]
        fn no_text_panics(text in "[a-z*0-9, ]{0,40}") {
            if let Ok(script) = text.parse::<Script>() {
                prop_assert_eq!(script.to_string().parse(), Ok(script));
            }
        }
    }
}
