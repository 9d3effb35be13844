#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relist_fuzz::ops::ops(bytes));
