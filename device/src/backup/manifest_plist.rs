//! Manifest.plist: whether the backup is encrypted, with which keys, and which phone it is of.

use std::{fmt, time::SystemTime};

use plist::Dictionary;

use super::Error;
use crate::property_list;

/// Manifest.plist, written by the phone. Every value may be absent, and counts as absent when its type is wrong.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ManifestPlist {
    /// Whether blobs and Manifest.db are encrypted: `IsEncrypted`, or, where that is absent, whether there is a
    /// manifest key.
    pub is_encrypted: bool,
    /// When the backup was made.
    pub date: Option<SystemTime>,
    /// The version of the format, `10.0` since iOS 10.2.
    pub version: Option<String>,
    /// Whether the phone had a passcode.
    pub was_passcode_set: Option<bool>,
    /// The version of the phone's list of domains, for example `24.0`.
    pub system_domains_version: Option<String>,
    /// What lockdown said of the phone.
    pub lockdown: Lockdown,
    /// `BackupKeyBag`: the class keys, wrapped by the backup password; tag-length-value, undecoded.
    pub keybag: Option<Vec<u8>>,
    /// `ManifestKey`: the protection class in four bytes, little-endian, and the wrapped key of Manifest.db.
    pub manifest_key: Option<Vec<u8>>,
}

/// The `Lockdown` dictionary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockdown {
    /// The name its owner gave it.
    pub device_name: Option<String>,
    /// The model, for example `iPhone9,3`.
    pub product_type: Option<String>,
    /// The version of iOS.
    pub product_version: Option<String>,
    /// The build of iOS.
    pub build_version: Option<String>,
    /// The UDID.
    pub unique_device_id: Option<String>,
    /// The serial number.
    pub serial_number: Option<String>,
}

impl ManifestPlist {
    /// Parses the bytes of Manifest.plist.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let root =
            property_list::read_dictionary(bytes).map_err(|source| Error::Plist { file: "Manifest.plist", source })?;
        let manifest_key = property_list::data(&root, "ManifestKey");
        Ok(ManifestPlist {
            is_encrypted: truth(&root, "IsEncrypted").unwrap_or(manifest_key.is_some()),
            date: property_list::date(&root, "Date"),
            version: property_list::string(&root, "Version"),
            was_passcode_set: property_list::boolean(&root, "WasPasscodeSet"),
            system_domains_version: property_list::string(&root, "SystemDomainsVersion"),
            lockdown: root
                .get("Lockdown")
                .and_then(|value| value.as_dictionary())
                .map(Lockdown::read)
                .unwrap_or_default(),
            keybag: property_list::data(&root, "BackupKeyBag"),
            manifest_key,
        })
    }
}

/// A boolean, or the number that some programs write for one.
fn truth(root: &Dictionary, key: &str) -> Option<bool> {
    let number = || root.get(key)?.as_signed_integer().map(|number| number != 0);
    property_list::boolean(root, key).or_else(number)
}

impl Lockdown {
    fn read(dictionary: &Dictionary) -> Self {
        let string = |key| property_list::string(dictionary, key);
        Lockdown {
            device_name: string("DeviceName"),
            product_type: string("ProductType"),
            product_version: string("ProductVersion"),
            build_version: string("BuildVersion"),
            unique_device_id: string("UniqueDeviceID"),
            serial_number: string("SerialNumber"),
        }
    }
}

/// Keys are kept out of logs.
impl fmt::Debug for ManifestPlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestPlist")
            .field("is_encrypted", &self.is_encrypted)
            .field("date", &self.date)
            .field("version", &self.version)
            .field("was_passcode_set", &self.was_passcode_set)
            .field("system_domains_version", &self.system_domains_version)
            .field("lockdown", &self.lockdown)
            .field("has_keybag", &self.keybag.is_some())
            .field("has_manifest_key", &self.manifest_key.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use plist::Value;

    use super::*;

    fn encrypted() -> Dictionary {
        let mut lockdown = Dictionary::new();
        lockdown.insert("DeviceName".into(), Value::String("Ada's iPhone".into()));
        lockdown.insert("UniqueDeviceID".into(), Value::String("00008030-001A2B3C4D5E6F78".into()));
        lockdown.insert("com.apple.TerminalFlashr".into(), Value::Dictionary(Dictionary::new()));
        let mut root = Dictionary::new();
        root.insert("IsEncrypted".into(), Value::Boolean(true));
        root.insert("BackupKeyBag".into(), Value::Data(b"VERS".to_vec()));
        root.insert("ManifestKey".into(), Value::Data(vec![3; 44]));
        root.insert("Lockdown".into(), Value::Dictionary(lockdown));
        root
    }

    fn parse(root: Dictionary) -> ManifestPlist {
        let mut bytes = Vec::new();
        Value::Dictionary(root).to_writer_binary(&mut bytes).unwrap();
        ManifestPlist::parse(&bytes).unwrap()
    }

    #[test]
    fn keys_and_phone_are_read_and_keys_are_not_printed() {
        let manifest = parse(encrypted());
        assert!(manifest.is_encrypted);
        assert_eq!(manifest.keybag.as_deref(), Some(&b"VERS"[..]));
        assert_eq!(manifest.manifest_key, Some(vec![3; 44]));
        assert_eq!(manifest.lockdown.device_name.as_deref(), Some("Ada's iPhone"));
        assert_eq!(manifest.lockdown.unique_device_id.as_deref(), Some("00008030-001A2B3C4D5E6F78"));
        assert!(!format!("{manifest:?}").contains("3, 3, 3"));
    }

    #[test]
    fn a_manifest_key_alone_means_encrypted() {
        let mut root = encrypted();
        root.remove("IsEncrypted");
        assert!(parse(root.clone()).is_encrypted);
        root.remove("ManifestKey");
        assert!(!parse(root.clone()).is_encrypted);
        for (number, is_encrypted) in [(1, true), (0, false)] {
            root.insert("IsEncrypted".into(), Value::Integer(number.into()));
            assert_eq!(parse(root.clone()).is_encrypted, is_encrypted);
        }
    }
}
