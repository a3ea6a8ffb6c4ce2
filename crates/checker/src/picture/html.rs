//! The page: data, style and script in one file.

use super::Picture;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn page(picture: &Picture) -> String {
    let data = serde_json::to_string(picture).expect("a picture is plain data");
    // Within a script element, `<` could begin its end.
    let data = data.replace('<', "\\u003c");
    let title = picture.title.replace('&', "&amp;").replace('<', "&lt;");
    PAGE.replace("{{title}}", &title)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{data}}", &data)
}

#[cfg(test)]
mod tests {
    use crate::models::Register;
    use crate::models::register::{Input, Output};
    use crate::picture::Picture;
    use crate::{ClientId, History, Limits, Nanos, check};

    /// LIN-4: one page, no network, and what somebody wrote into a key is text in it.
    #[test]
    fn values_cannot_break_out_of_the_page() {
        let mut history = History::new();
        let op = history.invoke(ClientId(1), Nanos(1), Input::Read);
        history.returned(op, Nanos(2), Output::Value("</script><b>".into()));
        let verdict = check(&Register::default(), &history, &Limits::default());
        let page = Picture::of("a <title>", &Register::default(), &history, &verdict).to_html();
        assert_eq!(page.matches("</script>").count(), 2, "one for the data, one for the script");
        assert!(page.contains("a &lt;title>"));
        assert!(
            !page.contains("http://") || page.contains("http://www.w3.org/2000/svg"),
            "no network"
        );
    }
}
