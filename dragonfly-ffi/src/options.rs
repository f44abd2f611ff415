//! How a node is configured.

use std::ffi::c_char;
use std::sync::Arc;

use dragonfly_core::{Address, Error, Identity, Node, NodeBuilder, OriginTrust, Result, Runtime, Token};

use crate::context::Context;
use crate::policy::{self, dragonfly_policy};
use crate::runtime::{self, dragonfly_runtime};
use crate::source::{self, dragonfly_source};
use crate::{args, table};

/// The length of an identity, in bytes.
pub const DRAGONFLY_IDENTITY_LENGTH: usize = 32;

/// How a node is configured. Zero is the default of every field but `size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_node_options {
    /// `sizeof(dragonfly_node_options)`.
    pub size: usize,
    /// Where identity, membership and content are kept; NULL: in memory, gone with the node. One process at a time may
    /// use a directory.
    pub data_dir: *const c_char,
    /// How many bytes of content a node without a directory may hold; 0: 256 MiB.
    pub memory_bytes: u64,
    /// How many bytes of content the directory may hold; 0: no bound but the disk's.
    pub quota_bytes: u64,
    /// Addresses to listen on, such as "/ip4/0.0.0.0/tcp/0"; none: it does not listen.
    pub listen: *const *const c_char,
    /// How many.
    pub listen_length: usize,
    /// The token of the network to join; NULL: the one that the directory is a member of, or a new one.
    pub token: *const c_char,
    /// Schedulers, each with /p2p/PEER at its end; none: those of the token.
    pub schedulers: *const *const c_char,
    /// How many.
    pub schedulers_length: usize,
    /// Members to turn to where there is no scheduler, each with /p2p/PEER at its end; none: those of the token.
    pub bootstrap: *const *const c_char,
    /// How many.
    pub bootstrap_length: usize,
    /// How many neighbours are served at a time; 0: 8.
    pub upload_slots: u16,
    /// Never sends a piece to others.
    pub no_uploads: bool,
    /// Lets fetches that no local caller asked for reach origins on loopback.
    pub allow_loopback_origins: bool,
    /// In a network that this node founds, only seeds may say what an origin said (default: any member).
    pub trust_seeds_only: bool,
    /// The threads to run on; NULL: its own.
    pub runtime: *const dragonfly_runtime,
    /// Who the node is: the 32 bytes of an Ed25519 secret key, from a good random source; NULL: the identity in the
    /// directory, made where there is none. Two live nodes of one identity cannot both be reached.
    pub identity: *const u8,
    /// Origins for further URL schemes, or in place of the library's own; none: HTTP and HTTPS. They are read during the
    /// call.
    pub sources: *const *const dragonfly_source,
    /// How many.
    pub sources_length: usize,
    /// The program's rules about other members; NULL: none. It is read during the call.
    pub policy: *const dragonfly_policy,
    /// The site that the node is in, such as a region or a data centre: 1 to 64 letters, digits, '-', '_' and '.';
    /// NULL: none. Hosts of one site get content from each other, and few of them from another site.
    pub site: *const c_char,
}

crate::args::sized! { dragonfly_node_options, "node options"; }

/// Addresses from their texts.
pub(crate) fn addresses(texts: Vec<&str>) -> Result<Vec<Address>> {
    texts.into_iter().map(|text| text.parse().map_err(Error::from)).collect()
}

/// A node that is to be started.
pub(crate) struct Configured {
    pub(crate) builder: NodeBuilder,
    pub(crate) runtime: Runtime,
    /// Withdrawn if it is not.
    pub(crate) contexts: Vec<Arc<Context>>,
}

/// Reads the options. If it fails, no callback in them was registered.
///
/// # Safety
/// As [`args::read_sized`], and its texts as [`args::text`].
pub(crate) unsafe fn read(options: *const dragonfly_node_options) -> Result<Configured> {
    let mut contexts = Vec::new();
    // SAFETY: the caller's promise.
    let read = unsafe { plain(options).and_then(|(builder, given)| own(builder, &given, &mut contexts)) };
    match read {
        Ok((builder, runtime)) => Ok(Configured { builder, runtime, contexts }),
        Err(error) => {
            contexts.iter().for_each(|context| context.withdraw());
            Err(error)
        }
    }
}

/// Reads options of a node that ends with a call: what lives longer, or is called back, is not for it.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn read_for_one_call(options: *const dragonfly_node_options) -> Result<Configured> {
    // SAFETY: the caller's promise.
    unsafe {
        let given = args::read_sized(options)?;
        if given.sources_length > 0 || !given.policy.is_null() || !given.runtime.is_null() {
            let text = "sources, a policy and a runtime are for a node that the program starts itself";
            return Err(args::invalid(text));
        }
        read(options)
    }
}

/// What is text and numbers.
///
/// # Safety
/// As [`read`].
unsafe fn plain(options: *const dragonfly_node_options) -> Result<(NodeBuilder, dragonfly_node_options)> {
    // SAFETY: the caller's promise.
    unsafe {
        let options = args::read_sized(options)?;
        let mut builder = Node::builder().allow_loopback_origins(options.allow_loopback_origins);
        if let Some(dir) = args::optional_text(options.data_dir, "data_dir")? {
            builder = builder.data_dir(dir);
        }
        if options.memory_bytes > 0 {
            builder = builder.memory_bytes(options.memory_bytes);
        }
        if options.quota_bytes > 0 {
            builder = builder.quota_bytes(options.quota_bytes);
        }
        for address in addresses(args::texts(options.listen, options.listen_length, "listen")?)? {
            builder = builder.listen(address);
        }
        if let Some(token) = args::optional_text(options.token, "token")? {
            builder = builder.join(token.parse::<Token>()?);
        }
        for address in addresses(args::texts(options.schedulers, options.schedulers_length, "schedulers")?)? {
            builder = builder.scheduler(address);
        }
        for address in addresses(args::texts(options.bootstrap, options.bootstrap_length, "bootstrap")?)? {
            builder = builder.bootstrap(address);
        }
        if options.no_uploads {
            builder = builder.upload_slots(0);
        } else if options.upload_slots > 0 {
            builder = builder.upload_slots(options.upload_slots);
        }
        if let Some(site) = args::optional_text(options.site, "site")? {
            builder = builder.site(site);
        }
        if options.trust_seeds_only {
            builder = builder.origin_trust(OriginTrust::Seeds);
        }
        Ok((builder, options))
    }
}

/// What is the program's own.
///
/// # Safety
/// As [`read`].
unsafe fn own(
    mut builder: NodeBuilder,
    options: &dragonfly_node_options,
    contexts: &mut Vec<Arc<Context>>,
) -> Result<(NodeBuilder, Runtime)> {
    // SAFETY: the caller's promise.
    unsafe {
        if !options.identity.is_null() {
            let seed = options.identity.cast::<[u8; DRAGONFLY_IDENTITY_LENGTH]>().read();
            builder = builder.identity(Identity::from_seed(seed));
        }
        if options.sources.is_null() && options.sources_length > 0 {
            return Err(args::invalid("sources is NULL, but not its length"));
        }
        for place in 0..options.sources_length {
            let registered = source::read(options.sources.add(place).read())?;
            contexts.push(registered.context);
            builder = builder.source_for(registered.scheme, registered.source);
        }
        if !options.policy.is_null() {
            let (policy, context) = policy::read(options.policy)?;
            contexts.push(context);
            builder = builder.policy(policy);
        }
        let runtime = match options.runtime.is_null() {
            true => runtime::start(0)?,
            false => (*table::get(options.runtime)?).clone(),
        };
        Ok((builder, runtime))
    }
}
