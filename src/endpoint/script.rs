//! The script: the steps by which the endpoint answers one heartbeat after the other.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;
use serde::Serialize;

/// The most steps of a script, repetitions counted.
const MAX_STEPS: usize = 10_000;

/// How the endpoint answers one heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    Ok,
    Throttle,
    Error,
    Hang,
    Reject,
    Reset,
    Html,
    Terminate,
}

impl Step {
    /// The steps in the order of their definition: the word in a script, and the answer.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Ok, "ok", "acknowledged"),
        (Self::Throttle, "throttle", "ThrottlingException: the account is over its limit"),
        (Self::Error, "error", "InternalServiceError, status 500"),
        (Self::Hang, "hang", "none, until the client closes the connection"),
        (Self::Reject, "reject", "AccessDeniedException: a permission is missing"),
        (Self::Reset, "reset", "the connection breaks after half of the reply"),
        (Self::Html, "html", "a page of HTML, as from a captive portal"),
        (Self::Terminate, "terminate", "acknowledged with terminate, from here on"),
    ];

    pub(crate) const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
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
/// `terminate` comes last and once, because the service repeats it for every later heartbeat.
/// `Display` prints the canonical form: no whitespace, equal neighbours joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    steps: Vec<Step>,
}

impl Script {
    /// The script of a seed, the same on every host: up to ten steps of all kinds, then
    /// `terminate`.
    pub(crate) fn random(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let length = random.u8(3..=10);
        let mut step =
            || if random.bool() { Step::Ok } else { Step::ALL[usize::from(random.u8(1..7))].0 };
        let mut steps: Vec<Step> = (0..length).map(|_| step()).collect();
        steps.push(Step::Terminate);
        Self { steps }
    }

    /// The number of steps.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The step at `position`, counted from 0. Beyond the end this is [`Step::Terminate`] if the
    /// script ends with it, and otherwise [`Step::Ok`].
    pub(crate) fn step(&self, position: usize) -> Step {
        match (self.steps.get(position), self.steps.last()) {
            (Some(step), _) => *step,
            (None, Some(Step::Terminate)) => Step::Terminate,
            (None, _) => Step::Ok,
        }
    }
}

impl FromStr for Script {
    /// Names the word and the allowed values.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for word in text.split(',').map(str::trim) {
            let (name, count) = match word.split_once('*') {
                Some((name, digits)) => (name, repetitions(word, digits)?),
                None => (word, 1),
            };
            let Some((step, ..)) = Step::ALL.into_iter().find(|(_, word, _)| *word == name) else {
                let all = Step::ALL.map(|(_, word, _)| word).join(", ");
                return Err(format!("`{name}` is not a step; allowed are {all}"));
            };
            let repeats_terminate = step == Step::Terminate && count > 1;
            if repeats_terminate || steps.last() == Some(&Step::Terminate) {
                return Err(format!(
                    "`{word}` cannot follow `terminate`, which the service repeats"
                ));
            }
            if steps.len() + count > MAX_STEPS {
                return Err(format!(
                    "`{word}` makes the script too long; allowed are {MAX_STEPS} steps in all"
                ));
            }
            steps.extend(std::iter::repeat_n(step, count));
        }
        Ok(Self { steps })
    }
}

/// The number after `*` in `word`. Digits only: `usize` itself accepts a sign as well.
fn repetitions(word: &str, digits: &str) -> Result<usize, String> {
    let count = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    count.filter(|n| (1..=MAX_STEPS).contains(n)).ok_or_else(|| {
        format!(
            "`{word}`: a step is repeated by `*` and a number from 1 to {MAX_STEPS}, as in `ok*3`"
        )
    })
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
    fn a_script_is_parsed_into_its_steps() {
        use Step::{Error, Hang, Ok, Reject, Terminate, Throttle};
        let script = script("ok*3,throttle,error,hang,reject,terminate");
        let expected = [Ok, Ok, Ok, Throttle, Error, Hang, Reject, Terminate];
        assert_eq!(script.steps, expected);
    }

    #[test]
    fn display_prints_the_canonical_form() {
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
    fn a_seed_makes_the_same_script_everywhere() {
        let scripts = [0, 1, u64::MAX].map(|seed| Script::random(seed).to_string());
        let expected = [
            "reject,hang,ok*3,throttle*2,terminate",
            "html,ok,error,hang*2,reset,ok,reset,terminate",
            "error,throttle,reset,ok*2,error*2,ok,hang,error,terminate",
        ];
        assert_eq!(scripts, expected);
    }

    proptest! {
        #[test]
        fn a_random_script_is_short_and_ends_with_terminate(seed: u64) {
            let script = Script::random(seed);
            prop_assert!((4..=11).contains(&script.len()));
            prop_assert_eq!(script.step(script.len() - 1), Step::Terminate);
            prop_assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn beyond_the_end_the_step_is_ok_or_terminate() {
        let without = script("error");
        assert_eq!([0, 1, 999].map(|n| without.step(n)), [Step::Error, Step::Ok, Step::Ok]);
        let with = script("error,terminate");
        let expected = [Step::Error, Step::Terminate, Step::Terminate, Step::Terminate];
        assert_eq!([0, 1, 2, 999].map(|n| with.step(n)), expected);
    }

    #[test]
    fn errors_name_the_word_and_the_allowed_values() {
        let steps = "allowed are ok, throttle, error, hang, reject, reset, html, terminate";
        let number = "a step is repeated by `*` and a number from 1 to 10000, as in `ok*3`";
        let long = "makes the script too long; allowed are 10000 steps in all";
        let last = "cannot follow `terminate`, which the service repeats";
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
            ("ok*99999999999999999999", format!("`ok*99999999999999999999`: {number}")),
            ("ok,error*10000", format!("`error*10000` {long}")),
            ("terminate,ok*2", format!("`ok*2` {last}")),
            ("terminate*2", format!("`terminate*2` {last}")),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Script>().unwrap_err(), message, "{text:?}");
        }
    }

    prop_compose! {
        fn any_script()(
            words in prop::collection::vec(prop::sample::select(&Step::ALL[..7]), 1..50),
            terminate: bool,
        ) -> Script {
            let mut steps: Vec<Step> = words.into_iter().map(|(step, ..)| step).collect();
            steps.extend(terminate.then_some(Step::Terminate));
            Script { steps }
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_parses_to_the_same_script(script in any_script()) {
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
