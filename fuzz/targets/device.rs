//! Every parser of a backup folder's bytes. The first byte says which.

#![no_main]

use std::path::Path;

use heirloom_device::backup::{
    Attributes, Info, Keybag, ManifestMbdb, ManifestPlist, Status, udid_from_folder_name,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 7 {
        0 => drop(Info::parse(bytes)),
        1 => drop(Status::parse(bytes)),
        2 => drop(ManifestPlist::parse(bytes)),
        3 => drop(Attributes::parse(bytes)),
        4 => drop(Keybag::parse(bytes)),
        5 => {
            if let Ok(manifest) = ManifestMbdb::of(bytes.to_vec(), Path::new("Manifest.mbdb")) {
                manifest.records().for_each(drop);
            }
        }
        _ => drop(std::str::from_utf8(bytes).map(udid_from_folder_name)),
    }
});
