//! heirloom beside idevicebackup2 and pymobiledevice3 on the same phone, and each with what the others made.

use heirloom_sim::{Options, Trust};

use crate::{
    comparison::{differing, differing_keys, set},
    iphone_backup_decrypt::assert_opens,
    judge::{Judge, trials},
    libimobiledevice::{idevicebackup2, paired_by_idevicepair},
    programs::{PASSWORD, Sent, encrypting},
    pymobiledevice3,
    support::phone::{Attached, assert_restored, phone_on_day},
};

const BACKUP_PASSWORD: (&str, &str) = ("HEIRLOOM_BACKUP_PASSWORD", PASSWORD);

trials! {
    shares_pairings: &[Judge::Libimobiledevice, Judge::Pymobiledevice3],
    exports_what_idevicebackup2_writes: &[Judge::Libimobiledevice],
    exports_are_gone_on_from: &[Judge::Libimobiledevice, Judge::Pymobiledevice3],
    exports_are_restored: &[Judge::Libimobiledevice],
    imports_and_restores_what_others_wrote: &[Judge::Libimobiledevice, Judge::Pymobiledevice3],
    encrypted_exports_open: &[Judge::IphoneBackupDecrypt],
}

/// Backs up the phone into the folder `Backup`.
type Client = fn(&Attached) -> Sent;

/// Exports a snapshot into the folder `name`.
#[track_caller]
fn export(attached: &Attached, snapshot: &str, name: &str) {
    attached.ok(&["export", snapshot, "--to", &attached.folder(name)]);
}

/// From now on the owner accepts nobody: what works has a pairing already.
fn trust_nobody_else(attached: &Attached) {
    attached.phone.set_trust(Trust::Deny);
}

fn shares_pairings() {
    let attached = paired_by_idevicepair(Options::default());
    trust_nobody_else(&attached);
    assert_eq!(attached.json(&["pair"])["outcome"], "known");
    attached.ok(&["backup"]);
    attached.assert_left_well();

    let attached = Attached::paired();
    trust_nobody_else(&attached);
    attached.other_ok("idevicepair", &["validate"]);
    idevicebackup2(&attached, "Backup", &[]);
    pymobiledevice3::back_up(&attached, "Backup");
    attached.assert_left_well();

    let attached = Attached::stranger(Options::default());
    pymobiledevice3::ok(&attached, &["lockdown", "pair"]);
    trust_nobody_else(&attached);
    attached.ok(&["backup"]);
    attached.assert_no_complaints_but(pymobiledevice3::KNOWN);
}

fn exports_what_idevicebackup2_writes() {
    let attached = Attached::paired();
    for day in 0..3 {
        let sent = idevicebackup2(&attached, "Backup", &[]);
        assert_eq!(attached.sent_during(|| drop(attached.ok(&["backup"]))), sent, "day {day}");
        let (export, theirs) = (attached.home.exported("latest"), attached.backup_in("Backup"));
        assert_eq!(differing(&export, &theirs), set(&["Info.plist"]), "day {day}");
        let mut keys = differing_keys(&export, &theirs, "Info.plist");
        // Both may end within a second.
        keys.remove("Last Backup Date");
        assert_eq!(keys, set(&["GUID"]), "day {day}");
        attached.phone.live_one_day().unwrap();
    }
    attached.assert_left_well();
}

fn exports_are_gone_on_from() {
    let attached = Attached::paired();
    attached.ok(&["backup"]);
    export(&attached, "latest", "one");
    export(&attached, "latest", "other");
    attached.write_directly("direct");
    attached.phone.live_one_day().unwrap();
    let new = attached.write_directly("direct");
    let by_one = idevicebackup2(&attached, "one", &[]);
    let by_other = pymobiledevice3::back_up(&attached, "other");
    for (sent, name) in [(by_one, "one"), (by_other, "other")] {
        sent.assert_only(new, &attached.backup_in(name), 0);
    }
    attached.assert_left_well();
}

fn exports_are_restored() {
    for options in [Options::default(), encrypting()] {
        let attached = Attached::paired_with(options);
        attached.ok(&["backup", "--as-ciphertext"]);
        attached.phone.live_one_day().unwrap();
        attached.ok(&["backup", "--as-ciphertext"]);
        export(&attached, "latest~1", "restored");
        let command = ["restore", "--system", "--settings", "--remove", "--password", PASSWORD];
        let said = attached.other_ok("idevicebackup2", &[&command[..], &[&attached.folder("restored")]].concat());
        assert!(said.stdout.contains("Restore Successful."), "{said:?}");
        assert_restored(&attached.phone.restored().unwrap(), &phone_on_day(0), true);
        attached.assert_left_well();
    }
}

fn imports_and_restores_what_others_wrote() {
    let cases: [(Client, Options); 3] = [
        (|attached| idevicebackup2(attached, "Backup", &[]), Options::default()),
        (|attached| idevicebackup2(attached, "Backup", &[]), encrypting()),
        (|attached| pymobiledevice3::back_up(attached, "Backup"), Options::default()),
    ];
    for (back_up, options) in cases {
        let attached = Attached::paired_with(options);
        back_up(&attached);
        attached.ok(&["import", "Backup"]);
        attached.home.assert_exact("latest", &attached.backup_at("Backup"));
        attached.phone.live_one_day().unwrap();
        assert_restored(&attached.restore(&[BACKUP_PASSWORD], &["latest"]), &phone_on_day(0), true);

        // The next backup goes on from it.
        let sent = back_up(&attached);
        assert_eq!(attached.sent_during(|| drop(attached.ok(&["backup", "--as-ciphertext"]))).files, sent.files);
        assert_restored(&attached.restore(&[BACKUP_PASSWORD], &["latest"]), &phone_on_day(1), true);
        attached.assert_left_well();
    }
}

fn encrypted_exports_open() {
    let attached = Attached::paired_with(encrypting());
    attached.ok(&["backup", "--as-ciphertext"]);
    attached.phone.live_one_day().unwrap();
    attached.ok(&["backup", "--as-ciphertext"]);
    export(&attached, "latest", "export");
    assert_opens(&attached, "export");

    // Kept as plaintext, and encrypted again on the way out.
    attached.phone.live_one_day().unwrap();
    let said = attached.run_with(&[BACKUP_PASSWORD], &["backup", "--full", "--plain-is-fine"]);
    assert_eq!(said.exit, 0, "{said:?}");
    assert_eq!(attached.json(&["snapshots"])[2]["sealed"], true);
    export(&attached, "latest", "sealed");
    assert_opens(&attached, "sealed");
    attached.assert_left_well();
}
