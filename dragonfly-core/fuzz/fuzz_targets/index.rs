#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (dragonfly_core::fuzz::TARGETS[7].run)(data));
