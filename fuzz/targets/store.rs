//! Every parser of the repository's bytes. The first byte says which.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&which, bytes)) = data.split_first() {
        heirloom_store::fuzzing::parse(which, bytes);
    }
});
