//! Progress and messages while a file of the web is fetched (S19).

use std::process::Stdio;

use ddm_testkit::{
    cluster::{Cluster, finish},
    process::tool,
};

use super::{
    fixture::{SIZE, near, said},
    web::Web,
};
use crate::content::{MIB, bytes};

#[tokio::test]
async fn no_line_tells_of_a_part_before_anybody_knows_of_what() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    // Slow enough for lines of a log, one in ten seconds.
    web.limit(1 << 19);
    let output = cluster.run_client(&["--in", "3s", &web.url("plain", "x.bin")]).await?;
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("x.bin: ")).collect();
    assert!(lines[0].starts_with("starts at "), "{said}");
    assert!(lines.iter().any(|line| line.contains(" of 24 chunks, ")), "{said}");
    assert!(!said.contains("No server is left"), "workers are at it: {said}");
    let rates: Vec<&&str> = lines.iter().filter(|line| line.contains(" left")).collect();
    assert!(!rates.is_empty() && rates.iter().all(|line| !line.contains("%, 0 B/s")), "{said}");
    let mut before = 0;
    for line in lines {
        assert!(!line.contains("of 0 chunks") && !line.contains("[]"), "{line}");
        // Per cent are of the file's chunks, and never fall.
        let Some((chunks, rest)) = line.split_once(" of 24 chunks, ") else { continue };
        let (chunks, percent): (u64, u64) = (chunks.parse()?, rest.split(' ').next().unwrap().parse()?);
        assert_eq!(percent, chunks * 100 / 24, "{line}");
        assert!(chunks >= before, "{said}");
        before = chunks;
    }
    Ok(())
}

/// Returns the client's screens on a terminal of `columns` columns, from one move of the cursor to the next.
async fn shown(cluster: &Cluster, columns: u32, args: &[&str]) -> anyhow::Result<Vec<String>> {
    let client = cluster.client(args)?;
    let words = std::iter::once(client.as_std().get_program()).chain(client.as_std().get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let mut script = tool("script");
    script.args(["--quiet", "--flush", "--return", "--command"]);
    script.arg(format!("stty cols {columns} rows 24; exec {line}")).arg("/dev/null");
    script.current_dir(cluster.path("")).env("HOME", cluster.path("")).env("TERM", "xterm");
    let output = finish(script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?).await?;
    anyhow::ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let plain = parts.fold(first, |plain, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |end| end + 1);
        plain + "\n" + &part[end..]
    });
    Ok(plain.split(['\r', '\n']).map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect())
}

#[tokio::test]
async fn a_narrow_terminal_shows_bars_that_fit_and_misses_nobody() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let url = web.url("plain", "a-rather-long-name-of-a-file-that-takes-place.bin");
    let seen = shown(&cluster, 60, &[&url, "-o", "x.bin"]).await?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert!(seen.iter().any(|line| line.starts_with("  checked: sampled")), "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains("No server is left")), "{seen:?}");
    // Lines of bars are written without ends, each as wide as the terminal: one that was wider would shift the next.
    let bars: Vec<Vec<char>> = seen.iter().map(|text| text.chars().collect()).collect();
    let bars: Vec<Vec<String>> =
        bars.iter().map(|text| text.chunks(60).map(|line| line.iter().collect()).collect()).collect();
    let four = bars.iter().filter(|lines| lines.len() == 4 && lines[1].contains(" of 24 chunks, "));
    assert!(four.clone().count() >= 5, "{bars:?}");
    for lines in four {
        assert!(lines[0].starts_with("a-rather-long-name") && lines[1].starts_with('['), "{lines:?}");
        assert!(lines[2..].iter().all(|line| line.starts_with("  fs-")), "{lines:?}");
    }
    Ok(())
}
