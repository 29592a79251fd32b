//! The page about a campaign: one file, nothing loaded from elsewhere, readable in light and dark and on a phone.
//!
//! The page is a shell; its script builds everything from the data that lie in it as JSON. What guests and the hypervisor
//! wrote gets into it as text only.

pub mod data;

pub use data::Data;

/// Renders the page.
///
/// # Errors
/// When the data cannot be written as JSON, which no campaign makes happen.
pub fn render(data: &Data) -> serde_json::Result<String> {
    // Within a script element only its end tag and comments mean something; a backslash before the slash or the mark changes
    // nothing for JSON.
    let json = serde_json::to_string(data)?.replace("</", "<\\/").replace("<!--", "<\\u0021--");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>hyperfuzz: {target}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{style}</style></head><body>\
         <main id=\"page\"><noscript>This page draws itself: it needs scripts.</noscript></main>\
         <script type=\"application/json\" id=\"data\">{json}</script><script>{script}</script></body></html>\n",
        target = html_escape::encode_text(&data.campaign.target),
        style = include_str!("page.css"),
        script = include_str!("page.js"),
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::campaign::store::{Description, FORMAT};

    /// A campaign directory with a finding whose text tries to leave the script element.
    fn campaign(root: &Path) {
        let description = Description {
            format: FORMAT,
            hyperfuzz: "0".into(),
            target: "reference-pv".into(),
            build: "00".into(),
            plants: Vec::new(),
            seed: 1,
            sessions: 1,
        };
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
        let page = render(&Data::read(dir.path(), None).unwrap()).unwrap();
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
