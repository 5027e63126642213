//! libimobiledevice 1.3.0 as Debian has it: idevice_id, idevicepair, ideviceinfo, idevicebackup2.

use heirloom_sim::{Options, Trust};

use crate::{
    comparison::{assert_as_written_directly, property_list},
    judge::{Judge, trials},
    programs::{PASSWORD, Sent, encrypting},
    support::phone::{Attached, assert_restored, assert_whole, bytes_at, files_of, place_of},
};

const JUDGES: &[Judge] = &[Judge::Libimobiledevice];

trials! {
    sees_and_pairs_the_phone: JUDGES,
    backs_it_up_day_by_day: JUDGES,
    backs_it_up_encrypted: JUDGES,
    sets_changes_and_removes_the_password: JUDGES,
    restores_it: JUDGES,
}

/// A phone that idevicepair has paired.
pub fn paired_by_idevicepair(options: Options) -> Attached {
    let attached = Attached::stranger(options);
    attached.other_ok("idevicepair", &["pair"]);
    attached
}

/// Backs up into the folder `name`. Gives what was sent for it.
#[track_caller]
pub fn idevicebackup2(attached: &Attached, name: &str, options: &[&str]) -> Sent {
    let folder = attached.folder(name);
    attached.sent_during(|| {
        let said = attached.other_ok("idevicebackup2", &[&["backup"], options, &[&folder]].concat());
        assert!(said.stdout.contains("Backup Successful."), "{said:?}");
    })
}

fn sees_and_pairs_the_phone() {
    let attached = Attached::stranger(Options { trust: Trust::Deny, ..Options::default() });
    let udid = attached.phone.udid().to_owned();
    assert_eq!(attached.other_ok("idevice_id", &["-l"]).stdout.trim(), udid);
    for refused in [&["pair"][..], &["validate"]] {
        assert_eq!(attached.other("idevicepair", refused).exit, 1);
    }
    attached.phone.set_trust(Trust::Accept);
    for command in ["pair", "validate"] {
        assert!(attached.other_ok("idevicepair", &[command]).stdout.starts_with("SUCCESS"), "{command}");
    }
    let phone = attached.phone.phone().lockdown_values();
    for key in ["DeviceName", "ProductVersion", "SerialNumber", "InternationalMobileEquipmentIdentity"] {
        assert_eq!(attached.other_ok("ideviceinfo", &["-k", key]).stdout.trim(), phone[key].as_string().unwrap());
    }
    let will_encrypt = attached.other_ok("ideviceinfo", &["-q", "com.apple.mobile.backup", "-k", "WillEncrypt"]);
    assert_eq!(will_encrypt.stdout.trim(), "false");
    attached.other_ok("idevicepair", &["unpair"]);
    // Validating pairs anew if it can.
    attached.phone.set_trust(Trust::Deny);
    assert_eq!(attached.other("idevicepair", &["validate"]).exit, 1);
    attached.assert_no_complaints_but(&[]);
}

fn backs_it_up_day_by_day() {
    let attached = paired_by_idevicepair(Options::default());
    for day in 0..3 {
        let sent = idevicebackup2(&attached, "Backup", &[]);
        let written = attached.write_directly("direct");
        let (made, direct) = (attached.backup_in("Backup"), attached.backup_in("direct"));
        assert_whole(&made, &attached.phone.phone());
        assert_as_written_directly(&made, &direct, day == 0);
        sent.assert_only(written, &made, 0);
        attached.phone.live_one_day().unwrap();
    }
    let whole = attached.phone.phone().total_bytes();
    assert!(idevicebackup2(&attached, "Backup", &["--full"]).bytes > whole);
    attached.assert_no_complaints_but(&[]);
}

fn backs_it_up_encrypted() {
    let attached = paired_by_idevicepair(encrypting());
    for _ in 0..2 {
        attached.phone.live_one_day().unwrap();
        let sent = idevicebackup2(&attached, "Backup", &[]);
        let written = attached.write_directly("direct");
        sent.assert_only(written, &attached.backup_in("Backup"), 16);
    }
    let made = attached.backup_in("Backup");
    assert_eq!(property_list(&made, "Manifest.plist")["IsEncrypted"].as_boolean(), Some(true));
    for (location, file) in files_of(&attached.phone.phone()) {
        // AES-CBC with the padding that is always there.
        let sealed = bytes_at(&made, &place_of(location)).unwrap().len() as u64;
        assert_eq!(sealed, (file.size / 16 + 1) * 16, "{location}");
    }
    attached.assert_no_complaints_but(&[]);
}

fn sets_changes_and_removes_the_password() {
    let attached = paired_by_idevicepair(Options::default());
    let folder = attached.folder("Backup");
    let whole = attached.phone.phone().total_bytes();
    idevicebackup2(&attached, "Backup", &[]);
    for (command, words, exit, encrypts) in [
        (&["encryption", "on", "one"][..], "successfully", 0, true),
        (&["changepw", "two", "three"], "Invalid password", 207, true),
        (&["changepw", "one", "two"], "successfully", 0, true),
        (&["encryption", "off", "one"], "Invalid password", 207, true),
        (&["encryption", "off", "two"], "successfully", 0, false),
    ] {
        let said = attached.other("idevicebackup2", &[command, &[&folder]].concat());
        assert!(said.stdout.contains(words), "{command:?}: {said:?}");
        // Exit codes of programs are bytes: libimobiledevice gives -207.
        assert_eq!(said.exit, -exit & 0xff, "{command:?}: {said:?}");
        assert_eq!(attached.phone.is_encrypting(), encrypts, "{command:?}");
        if exit == 0 {
            // With another keybag nothing can be gone on from.
            assert!(idevicebackup2(&attached, "Backup", &[]).bytes > whole, "{command:?}");
        }
    }
    assert_whole(&attached.backup_in("Backup"), &attached.phone.phone());
    attached.assert_no_complaints_but(&[]);
}

fn restores_it() {
    for options in [Options::default(), encrypting()] {
        let is_encrypted = options.password.is_some();
        let attached = paired_by_idevicepair(options);
        idevicebackup2(&attached, "Backup", &[]);
        let restore = |password: &str| {
            let command = ["restore", "--system", "--settings", "--remove", "--password", password];
            attached.other("idevicebackup2", &[&command[..], &[&attached.folder("Backup")]].concat())
        };
        if is_encrypted {
            let said = restore("not the password");
            assert!(said.stdout.contains("ErrorCode 207: Invalid password"), "{said:?}");
            assert!(attached.phone.restored().is_none());
        }
        let said = restore(PASSWORD);
        assert!(said.exit == 0 && said.stdout.contains("Restore Successful."), "{said:?}");
        assert_restored(&attached.phone.restored().unwrap(), &attached.phone.phone(), true);
        attached.assert_no_complaints_but(&[]);
    }
}
