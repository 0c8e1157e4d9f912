//! A file as a Metalink 4 document (RFC 5854), for other download programs.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};
use wire::{Digest, catalogue::Location};

const NAMESPACE: &str = "urn:ietf:params:xml:ns:metalink";

/// The content of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metalink<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: u64,
    /// SHA-256 of the whole; none when holders of the content computed another one.
    pub(crate) sha256: Option<Digest>,
    pub(crate) chunk_size: u64,
    /// Digest of each chunk, in order.
    pub(crate) digests: &'a [Digest],
    /// Complete replicas, best first.
    pub(crate) sources: &'a [Location],
}

impl Metalink<'_> {
    /// Returns the document. Names and addresses are escaped; a file's name is one path segment by its type (RFC 5854 §4.1.2.1).
    pub(crate) fn to_xml(self) -> io::Result<Vec<u8>> {
        let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        xml.create_element("metalink").with_attribute(("xmlns", NAMESPACE)).write_inner_content(|xml| {
            xml.create_element("file").with_attribute(("name", self.name)).write_inner_content(|xml| self.file(xml))?;
            Ok(())
        })?;
        Ok(xml.into_inner())
    }

    fn file(&self, xml: &mut Writer<Vec<u8>>) -> io::Result<()> {
        text(xml, "size", None, &self.size.to_string())?;
        if let Some(sha256) = self.sha256 {
            text(xml, "hash", Some(Attribute { name: "type", value: "sha-256" }), &sha256.to_string())?;
        }
        if !self.digests.is_empty() {
            let length = self.chunk_size.to_string();
            let pieces = xml.create_element("pieces").with_attribute(("type", "sha-256"));
            pieces.with_attribute(("length", length.as_str())).write_inner_content(|xml| {
                self.digests.iter().try_for_each(|digest| text(xml, "hash", None, &digest.to_string()))
            })?;
        }
        for source in self.sources {
            // 1 is the highest (RFC 5854 §4.2.16.1), and that of the requester's own zone.
            let priority = (u32::from(source.cost) + 1).to_string();
            text(xml, "url", Some(Attribute { name: "priority", value: &priority }), source.url.as_str())?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
}

fn text(xml: &mut Writer<Vec<u8>>, name: &str, attribute: Option<Attribute<'_>>, content: &str) -> io::Result<()> {
    let attribute = attribute.map(|Attribute { name, value }| (name, value));
    let element = xml.create_element(name).with_attributes(attribute);
    element.write_text_content(BytesText::new(content)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_markup_is_a_name_and_the_own_zone_comes_first() {
        let source = |zone: &str, cost| Location {
            server: "fs-1".parse().unwrap(),
            zone: zone.parse().unwrap(),
            url: "http://10.0.0.7:9000/v1/files/x/content?a=1&b=2".parse().unwrap(),
            runs: wire::ChunkSet::new(),
            cost,
        };
        let digest = Digest::of(b"x");
        let document = Metalink {
            name: "a<b>&\"c\".iso",
            size: 1,
            sha256: Some(digest),
            chunk_size: 1 << 20,
            digests: &[digest],
            sources: &[source("eu", 0), source("us", 9)],
        };
        let text = String::from_utf8(document.to_xml().unwrap()).unwrap();
        assert!(text.contains("name=\"a&lt;b&gt;&amp;&quot;c&quot;.iso\""), "{text}");
        assert!(text.contains("<size>1</size>"), "{text}");
        assert!(
            text.contains(&format!("<pieces type=\"sha-256\" length=\"1048576\">\n   <hash>{digest}</hash>")),
            "{text}"
        );
        let (near, far) = (text.find("priority=\"1\"").unwrap(), text.find("priority=\"10\"").unwrap());
        assert!(near < far && text.contains("?a=1&amp;b=2"), "{text}");
    }
}
