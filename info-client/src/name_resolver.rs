//! The resolver of host names of HTTP clients.

use lifecycle::names::Names;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolver whose look-ups outlive the attempts that wait for them, see [`lifecycle::names`].
#[derive(Debug, Clone, Default)]
pub struct NameResolver(Names);

impl Resolve for NameResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        Box::pin(async move {
            let found = names.look_up(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
