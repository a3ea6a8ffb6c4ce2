//! The player of simulated runs as one file that needs nothing else: it can be mailed, and opened without a server.

use super::assets;

/// Before the trace, and behind it.
const DATA: (&str, &str) = ("<script id=\"trace\" type=\"application/jsonl\">", "</script>");
/// The player's modules, each behind those that it uses.
const SCRIPTS: [&str; 6] =
    ["dom.js", "members.js", "logs.js", "trace.js", "diagram.js", "player.js"];
const STYLES: [&str; 2] = ["style.css", "player.css"];
/// Its own scripts and styles are in the page; nothing may come from anywhere.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; \
                      style-src 'unsafe-inline'; img-src data:\">";

/// A page that plays this trace: the JSON lines of `docs/trace.md`, under this title.
pub fn player_page(title: &str, trace: &str) -> String {
    let (before, rest) = text("player.html").split_once("<!-- files -->").unwrap_or_default();
    let (_, body) = rest.split_once("<!-- end of files -->").unwrap_or_default();
    let styles: String = STYLES.map(text).concat();
    let scripts: String = SCRIPTS.map(|name| inline(text(name))).concat();
    let (open, close) = DATA;
    // Nothing in a trace may end the element that it stands in.
    let trace = trace.replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let data =
        format!("{open}{trace}{close}\n<script type=\"module\">\n{scripts}</script>\n</body>");
    let body =
        body.replace("</body>", &data).replace("<h1>Player</h1>", &format!("<h1>{title}</h1>"));
    format!("{before}{POLICY}\n<style>\n{styles}</style>\n{body}")
}

fn text(name: &str) -> &'static str {
    assets::find(name).map_or("", |asset| asset.text)
}

/// A module as part of one script: what it takes from others stands before it, so that nothing is imported.
fn inline(module: &str) -> String {
    let lines = module.lines().filter(|line| !line.starts_with("import "));
    lines.map(|line| format!("{}\n", line.strip_prefix("export ").unwrap_or(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_its_trace_and_asks_for_nothing() {
        let page = player_page("a <b>", "{\"t\":0,\"text\":\"</script><b>\"}\n");
        assert!(page.contains("a &lt;b>") && page.contains("\\u003c/script>\\u003cb>"));
        assert!(
            !page.contains("src=") && !page.contains("stylesheet\"") && !page.contains("\nimport ")
        );
        assert_eq!(page.matches("</script>").count(), 2);
    }

    /// Modules become one script: two of them cannot both have a name.
    #[test]
    fn the_modules_of_the_player_share_no_name() {
        let mut seen = std::collections::BTreeMap::new();
        for module in SCRIPTS {
            for line in text(module).lines() {
                let line = line.trim_start_matches("export ").trim_start_matches("async ");
                let mut words = line.split([' ', '(', ';', '=']);
                if let (Some("const" | "let" | "function" | "class"), Some(name)) =
                    (words.next(), words.next())
                {
                    assert_eq!(seen.insert(name.to_string(), module), None, "{module}: {name}");
                }
            }
        }
        assert!(seen.len() > 10);
    }
}
