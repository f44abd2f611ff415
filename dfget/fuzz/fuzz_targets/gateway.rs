#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (dfget::fuzz::TARGETS[1].run)(data));
