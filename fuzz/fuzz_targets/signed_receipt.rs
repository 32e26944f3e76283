#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_mpp::receipt::fuzz::signed_receipt(data));
