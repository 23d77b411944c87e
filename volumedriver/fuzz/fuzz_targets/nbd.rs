//! NBD negotiation and requests from arbitrary bytes. Start it with the seeds of the tests:
//! `cargo +nightly fuzz run nbd tests/nbd_corpus` in `volumedriver/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| volumedriver::nbd::fuzz::fuzz_entry(data));
