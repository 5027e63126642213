//! Info.plist: what the host wrote about the phone.

use std::time::SystemTime;

use super::Error;
use crate::property_list as plist;

/// Info.plist. The host writes it, from lockdown's values; the phone reads it only when it restores. Every value may
/// be absent, and counts as absent when its type is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// `Target Identifier`, with its case, or else `Unique Identifier`, which Apple upper-cases.
    pub udid: Option<String>,
    /// The name its owner gave it.
    pub device_name: Option<String>,
    /// The name Finder shows; the device name in practice.
    pub display_name: Option<String>,
    /// The model, for example `iPhone9,3`.
    pub product_type: Option<String>,
    /// The version of iOS, for example `14.3`.
    pub product_version: Option<String>,
    /// The build of iOS, for example `18C66`.
    pub build_version: Option<String>,
    /// The serial number.
    pub serial_number: Option<String>,
    /// When the last backup into this folder ended.
    pub last_backup: Option<SystemTime>,
}

impl Info {
    /// Parses the bytes of Info.plist.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let root = plist::read_dictionary(bytes).map_err(|source| Error::Plist { file: "Info.plist", source })?;
        let string = |key| plist::string(&root, key);
        Ok(Info {
            udid: string("Target Identifier").or_else(|| string("Unique Identifier")),
            device_name: string("Device Name"),
            display_name: string("Display Name"),
            product_type: string("Product Type"),
            product_version: string("Product Version"),
            build_version: string("Build Version"),
            serial_number: string("Serial Number"),
            last_backup: plist::date(&root, "Last Backup Date"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_wrong_type_are_absent() {
        let xml = b"<plist><dict><key>Target Identifier</key><integer>7</integer><key>Unique Identifier</key>\
                    <string>AB</string><key>Device Name</key><array/><key>Product Type</key><string>iPad7,5</string>\
                    <key>Last Backup Date</key><string>yesterday</string></dict></plist>";
        let expected = Info { udid: Some("AB".into()), product_type: Some("iPad7,5".into()), ..Info::default() };
        assert_eq!(Info::parse(xml).unwrap(), expected);
    }

    #[test]
    fn an_empty_file_is_an_error_that_names_it() {
        assert!(Info::parse(b"").unwrap_err().to_string().starts_with("Info.plist: "));
    }
}
