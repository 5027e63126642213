//! `com.apple.mobile.installation_proxy`: the installed apps.

use plist::{Dictionary, Value};

use crate::{
    Error, Result, Stream,
    frame::{read_dictionary, write_xml_plist},
    property_list,
};

use super::request;

/// The service's name.
pub const NAME: &str = "com.apple.mobile.installation_proxy";

/// Apps come in portions; with their iTunesMetadata, one is well below this.
const MAX_MESSAGE_BYTES: usize = 32 << 20;
const MAX_APPS: usize = 20_000;
/// Bounds portions that hold no app.
const MAX_MESSAGES: usize = 20_000;

/// A connection to the service.
pub struct InstallationProxy(Box<dyn Stream>);

impl InstallationProxy {
    /// Over the stream of a started service.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        InstallationProxy(stream)
    }

    /// The apps that the user installed, each with those of the attributes that it has (`CFBundleIdentifier`,
    /// `ApplicationSINF`, `iTunesMetadata`, ...). At most 20 000.
    ///
    /// # Errors
    /// What the connection or the phone says.
    pub fn browse_user_apps(&mut self, attributes: &[&str]) -> Result<Vec<Dictionary>> {
        let mut apps = Vec::new();
        self.for_each_user_app(attributes, &mut |app| apps.push(app))?;
        Ok(apps)
    }

    /// As [`InstallationProxy::browse_user_apps`], one after the other.
    ///
    /// # Errors
    /// What the connection or the phone says.
    pub fn for_each_user_app(&mut self, attributes: &[&str], each: &mut dyn FnMut(Dictionary)) -> Result<()> {
        let attributes = attributes.iter().map(|&name| Value::from(name)).collect();
        let options = request([("ApplicationType", "User".into()), ("ReturnAttributes", Value::Array(attributes))]);
        write_xml_plist(&mut *self.0, &request([("Command", "Browse".into()), ("ClientOptions", options)]))?;
        let mut count = 0;
        for _ in 0..MAX_MESSAGES {
            let mut answer = read_dictionary(&mut *self.0, MAX_MESSAGE_BYTES)?;
            let status = property_list::string(&answer, "Status");
            if !matches!(status.as_deref(), Some("BrowsingApplications" | "Complete")) {
                return Err(super::refusal(NAME, &answer));
            }
            let portion = answer.remove("CurrentList").and_then(Value::into_array).unwrap_or_default();
            count += portion.len();
            if count > MAX_APPS {
                return Err(Error::protocol(format!("{NAME} lists more than {MAX_APPS} apps")));
            }
            // An app that is described in no way that is known is no reason to lose the others.
            portion.into_iter().filter_map(Value::into_dictionary).for_each(&mut *each);
            if status.as_deref() == Some("Complete") {
                return Ok(());
            }
        }
        Err(Error::protocol(format!("{NAME} does not end its list")))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::Script, *};

    fn portion(ids: &[&str], status: &str) -> Value {
        let apps = ids.iter().map(|&id| request([("CFBundleIdentifier", id.into())])).collect();
        request([("Status", status.into()), ("CurrentList", Value::Array(apps))])
    }

    fn browse(messages: &[Value]) -> Result<Vec<Dictionary>> {
        InstallationProxy::new(Script::messages(messages).0).browse_user_apps(&["CFBundleIdentifier"])
    }

    #[test]
    fn apps_come_in_portions() {
        let end = request([("Status", "Complete".into())]);
        let portions = [portion(&["a", "b"], "BrowsingApplications"), portion(&["c"], "BrowsingApplications"), end];
        let (stream, heard) = Script::messages(&portions);
        let apps = InstallationProxy::new(stream).browse_user_apps(&["CFBundleIdentifier"]).unwrap();
        let ids: Vec<_> = apps.iter().map(|app| app.get("CFBundleIdentifier").unwrap().as_string().unwrap()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let asked = read_dictionary(&mut &heard.lock().unwrap()[..], 1000).unwrap();
        let options = asked.get("ClientOptions").unwrap().as_dictionary().unwrap();
        assert_eq!(options.get("ApplicationType").unwrap().as_string(), Some("User"));
        assert_eq!(options.get("ReturnAttributes").unwrap().as_array().unwrap().len(), 1);
    }

    #[test]
    fn errors_and_endless_lists_end() {
        let failed = request([("Error", "APIInternalError".into())]);
        assert!(matches!(browse(&[failed]), Err(Error::Service { code, .. }) if code == "APIInternalError"));
        assert!(matches!(browse(&[portion(&["a"], "BrowsingApplications")]), Err(Error::Timeout)));
        assert!(matches!(browse(&[portion(&[], "Dancing")]), Err(Error::Service { .. })));
        let ids = ["a"; 5000];
        assert!(matches!(browse(&vec![portion(&ids, "BrowsingApplications"); 5]), Err(Error::Protocol { .. })));
    }

    #[test]
    fn odd_app_spoils_no_other() {
        let apps = [5.into(), request([("CFBundleIdentifier", "a".into())]), Value::Array(Vec::new())];
        let list = request([("Status", "Complete".into()), ("CurrentList", Value::Array(apps.into()))]);
        assert_eq!(browse(&[list]).unwrap().len(), 1);
    }
}
