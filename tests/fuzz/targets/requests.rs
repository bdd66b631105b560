#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| taskbeat::fuzzing::requests(input));
