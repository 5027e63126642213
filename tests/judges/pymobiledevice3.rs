//! pymobiledevice3, the other client that many use: its lockdown, its pairing, its backups.

use heirloom_sim::Options;

use crate::{
    comparison::assert_as_written_directly,
    judge::{Judge, trials},
    libimobiledevice::{idevicebackup2, paired_by_idevicepair},
    programs::{PASSWORD, Sent, encrypting},
    support::{
        phone::{Attached, assert_restored, assert_whole},
        program::Said,
    },
};

const JUDGES: &[Judge] = &[Judge::Pymobiledevice3];
const BOTH: &[Judge] = &[Judge::Pymobiledevice3, Judge::Libimobiledevice];
/// It gives the phone the key of its root certificate, which is no concern of the phone's.
pub const KNOWN: &[&str] = &["a Pair request carries a private key"];

trials! {
    pairs_and_backs_up_day_by_day: JUDGES,
    sets_and_changes_the_password: JUDGES,
    restores_an_encrypted_backup: JUDGES,
    goes_on_from_idevicebackup2: BOTH,
}

fn run(attached: &Attached, args: &[&str]) -> Said {
    attached.python(&[&["-m", "pymobiledevice3"], args].concat())
}

#[track_caller]
pub fn ok(attached: &Attached, args: &[&str]) -> Said {
    let said = run(attached, args);
    assert_eq!(said.exit, 0, "{args:?}: {said:?}");
    said
}

/// Backs up into the folder `name`. Gives what was sent for it.
#[track_caller]
pub fn back_up(attached: &Attached, name: &str) -> Sent {
    let folder = attached.folder(name);
    attached.sent_during(|| drop(ok(attached, &["backup2", "backup", &folder])))
}

fn pairs_and_backs_up_day_by_day() {
    let attached = Attached::stranger(Options::default());
    assert!(ok(&attached, &["usbmux", "list", "--simple"]).stdout.contains(attached.phone.udid()));
    ok(&attached, &["lockdown", "pair"]);
    let told = ok(&attached, &["lockdown", "info"]).stdout;
    let phone = attached.phone.phone().lockdown_values();
    for key in ["SerialNumber", "InternationalMobileEquipmentIdentity"] {
        assert!(told.contains(phone[key].as_string().unwrap()), "{key}: {told}");
    }
    for day in 0..3 {
        let sent = back_up(&attached, "Backup");
        let written = attached.write_directly("direct");
        let (made, direct) = (attached.backup_in("Backup"), attached.backup_in("direct"));
        assert_whole(&made, &attached.phone.phone());
        assert_as_written_directly(&made, &direct, day == 0);
        sent.assert_only(written, &made, 0);
        attached.phone.live_one_day().unwrap();
    }
    attached.assert_no_complaints_but(KNOWN);
}

fn sets_and_changes_the_password() {
    let attached = Attached::stranger(Options::default());
    let folder = attached.folder("Backup");
    for (command, exit, encrypts) in [
        (&["encryption", "on", "one"][..], 0, true),
        (&["change-password", "two", "three"], 1, true),
        (&["change-password", "one", "two"], 0, true),
        (&["encryption", "off", "one"], 1, true),
        (&["encryption", "off", "two"], 0, false),
    ] {
        let said = run(&attached, &[&["backup2"], command, &["-b", &folder]].concat());
        assert_eq!(said.exit, exit, "{command:?}: {said:?}");
        assert_eq!(attached.phone.is_encrypting(), encrypts, "{command:?}: {said:?}");
    }
    attached.assert_no_complaints_but(KNOWN);
}

fn restores_an_encrypted_backup() {
    let attached = Attached::stranger(encrypting());
    back_up(&attached, "Backup");
    let restore = |password: &str| {
        let folder = attached.folder("Backup");
        run(&attached, &["backup2", "restore", "--system", "--remove", "--password", password, &folder])
    };
    let said = restore("not the password");
    assert!(said.exit != 0 && said.stderr.contains("207"), "{said:?}");
    assert!(attached.phone.restored().is_none());
    let said = restore(PASSWORD);
    assert_eq!(said.exit, 0, "{said:?}");
    assert_restored(&attached.phone.restored().unwrap(), &attached.phone.phone(), true);
    attached.assert_no_complaints_but(KNOWN);
}

fn goes_on_from_idevicebackup2() {
    let attached = paired_by_idevicepair(Options::default());
    for _ in 0..2 {
        idevicebackup2(&attached, "Backup", &[]);
        attached.write_directly("direct");
        attached.phone.live_one_day().unwrap();
        let sent = back_up(&attached, "Backup");
        sent.assert_only(attached.write_directly("direct"), &attached.backup_in("Backup"), 0);
        attached.phone.live_one_day().unwrap();
    }
    attached.assert_no_complaints_but(&[]);
}
