//! The page about a campaign: one file, nothing loaded from elsewhere, readable in light and dark and on a phone.
//!
//! The page is a shell; its script builds everything from the data that lie in it as JSON. What guests and the hypervisor
//! wrote gets into it as text only. The page that is served ([`super::serve`]) has one more script, which fetches the data again.

mod curve;
pub mod data;
mod reader;

pub use curve::{Growth, Plateau, Sample};
pub use data::Data;
pub use reader::Reader;

/// How a page that is served keeps itself up to date.
#[derive(Clone, Copy, Debug)]
pub struct Refresh<'a> {
    /// Seconds from one look to the next.
    pub every: u64,
    /// Tag of the data in the page.
    pub tag: &'a str,
}

/// Renders the page around its data as JSON.
pub fn render(title: &str, json: &str, refresh: Option<Refresh<'_>>) -> String {
    // Within a script element only its end tag and comments mean something; a backslash before the slash or the mark changes
    // nothing for JSON.
    let json = json.replace("</", "<\\/").replace("<!--", "<\\u0021--");
    let attributes = refresh.map_or_else(String::new, |Refresh { every, tag }| {
        let tag = html_escape::encode_double_quoted_attribute(tag);
        format!(" data-refresh=\"{every}\" data-tag=\"{tag}\"")
    });
    format!(
        "<!doctype html>\n<html lang=\"en\"{attributes}><head><meta charset=\"utf-8\"><title>hyperfuzz: {target}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{style}</style></head><body>\
         <main id=\"page\"><noscript>This page draws itself: it needs scripts.</noscript></main>\
         <script type=\"application/json\" id=\"data\">{json}</script><script>{widgets}{script}{live}</script></body></html>\n",
        target = html_escape::encode_text(title),
        style = include_str!("page.css"),
        widgets = include_str!("widgets.js"),
        script = include_str!("page.js"),
        live = refresh.map_or("", |_| include_str!("live.js")),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::campaign::store::Description;

    /// A campaign directory with a finding whose text tries to leave the script element.
    fn campaign(root: &Path) {
        let description = Description::any(1);
        let finding = root.join("findings/fault-a-00000000");
        std::fs::create_dir_all(&finding).unwrap();
        std::fs::write(root.join("campaign.json"), serde_json::to_string(&description).unwrap()).unwrap();
        let hostile = json!({"bucket": "fault-a-00000000", "summary": "</script><script>alert(1)</script><!-- <script>"});
        std::fs::write(finding.join("finding.json"), hostile.to_string()).unwrap();
    }

    #[test]
    fn nothing_leaves_the_script_element() {
        let dir = tempfile::tempdir().unwrap();
        campaign(dir.path());
        let data = Data::read(dir.path(), None).unwrap();
        let page = render(&data.campaign.target, &serde_json::to_string(&data).unwrap(), None);
        assert!(!page.contains("fetch("), "a file asks nobody");
        assert_eq!(page.matches("</script>").count(), 2, "one for the data, one for the code");
        assert!(!page.contains("<!--"));
        let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = start + page[start..].find("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(&page[start..end]).unwrap();
        assert_eq!(data["findings"][0]["summary"], "</script><script>alert(1)</script><!-- <script>");
    }

    #[test]
    fn a_directory_without_a_campaign_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Data::read(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("campaign.json") && error.contains("hyperfuzz fuzz"), "{error}");
    }
}
