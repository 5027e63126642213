//! `com.apple.springboardservices`: the home screen; here, the apps' icons.

use crate::{
    Result, Stream,
    frame::{SMALL_MESSAGE_BYTES, read_dictionary, write_plist},
    property_list,
};

use super::request;

/// The service's name.
pub const NAME: &str = "com.apple.springboardservices";

/// A connection to the service.
pub struct Springboard(Box<dyn Stream>);

impl Springboard {
    /// Over the stream of a started service.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Springboard(stream)
    }

    /// The icon of an app, a PNG of at most 4 MiB.
    ///
    /// # Errors
    /// [`crate::Error::Service`] if there is none, and what the connection says.
    pub fn icon_png(&mut self, bundle_id: &str) -> Result<Vec<u8>> {
        let ask = request([("command", "getIconPNGData".into()), ("bundleId", bundle_id.into())]);
        write_plist(&mut *self.0, &ask)?;
        let answer = read_dictionary(&mut *self.0, SMALL_MESSAGE_BYTES)?;
        property_list::data(&answer, "pngData").ok_or_else(|| super::refusal(NAME, &answer))
    }
}

#[cfg(test)]
mod tests {
    use plist::Value;

    use super::{super::tests::Script, *};
    use crate::{Error, frame::read_dictionary};

    #[test]
    fn icons_come_or_are_refused() {
        let (stream, heard) = Script::messages(&[
            request([("pngData", Value::Data(b"\x89PNG".to_vec()))]),
            request([("Error", "no icon".into())]),
        ]);
        let mut springboard = Springboard::new(stream);
        assert_eq!(springboard.icon_png("com.example").unwrap(), b"\x89PNG");
        let asked = read_dictionary(&mut &heard.lock().unwrap()[..], 1000).unwrap();
        assert_eq!(asked.get("bundleId").unwrap().as_string(), Some("com.example"));
        let refused = springboard.icon_png("x");
        assert!(matches!(refused, Err(Error::Service { code, .. }) if code == "no icon"));
    }
}
