//! iphone_backup_decrypt: opens encrypted backups as others who have only the password and the folder do.

use std::fs;

use heirloom_sim::Location;
use rusqlite::{Connection, OpenFlags};

use crate::{
    judge::{Judge, trials},
    libimobiledevice::{idevicebackup2, paired_by_idevicepair},
    programs::{PASSWORD, content, encrypting},
    support::phone::{Attached, files_of},
};

/// `BACKUP PASSWORD FOLDER`: puts all files into FOLDER by their ids, and the messages and a photo that are asked for by name.
const EXTRACT: &str = "
import os, sys
from iphone_backup_decrypt import EncryptedBackup
backup, password, folder, photo = sys.argv[1:]
backup = EncryptedBackup(backup_directory=backup, passphrase=password)
by_id = lambda *, file_id, **kwargs: os.path.join(folder, file_id)
backup.extract_files(relative_paths_like='%', output_folder=folder, filter_callback=by_id)
for path, domain, name in [('Library/SMS/sms.db', 'HomeDomain', 'sms.db'), (photo, 'CameraRollDomain', 'photo')]:
    backup.extract_file(relative_path=path, domain_like=domain, output_filename=os.path.join(folder, name))
";

trials! {
    opens_what_idevicebackup2_made: &[Judge::IphoneBackupDecrypt, Judge::Libimobiledevice],
}

fn opens_what_idevicebackup2_made() {
    let attached = paired_by_idevicepair(encrypting());
    idevicebackup2(&attached, "Backup", &[]);
    attached.phone.live_one_day().unwrap();
    idevicebackup2(&attached, "Backup", &[]);
    assert_opens(&attached, "Backup");
}

/// The backup in the folder `name` opens with its password alone, and holds every file of the phone.
#[track_caller]
pub fn assert_opens(attached: &Attached, name: &str) {
    let backup = attached.backup_at(name);
    let opened = attached.folder("opened");
    let phone = attached.phone.phone();
    let is_photo = |location: &Location| location.domain == "CameraRollDomain" && location.path.ends_with(".HEIC");
    let (photo, photo_file) = files_of(&phone).find(|(location, _)| is_photo(location)).unwrap();
    let open = |password| attached.python(&["-c", EXTRACT, backup.to_str().unwrap(), password, &opened, &photo.path]);
    let wrong = open("not the password");
    assert!(wrong.exit != 0 && wrong.stderr.contains("incorrect passphrase"), "{wrong:?}");
    let right = open(PASSWORD);
    assert_eq!(right.exit, 0, "{right:?}");

    let read = |name: &str| fs::read(attached.home.path("opened").join(name)).unwrap();
    for (location, file) in files_of(&phone) {
        assert!(read(&location.file_id()) == content(file), "{location}");
    }
    assert!(read("photo") == content(photo_file), "{photo}");
    let messages = attached.home.path("opened/sms.db");
    let messages = Connection::open_with_flags(messages, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let verdict: String = messages.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let count: i64 = messages.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert!(verdict == "ok" && count > 0, "{verdict}, {count} messages");
}
