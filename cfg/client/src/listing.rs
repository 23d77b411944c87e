//! Reading many keys at one revision.

use bytes::Bytes;
use cfg_api::etcdserverpb as rpc;
use rpc::request_op::Request;
use rpc::response_op::Response;

use crate::store::Repeat;
use crate::{Error, KeyPath, KeyRange, Pair, Store};

/// Keys with their values as they were at one revision, in the order of the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The store's revision.
    pub revision: i64,
    /// The store's cluster.
    pub cluster_id: u64,
    /// The pairs; without values if only keys were asked for.
    pub pairs: Vec<Pair>,
}

/// What a listing contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Keys and values.
    Values,
    /// Keys; all values are empty.
    Keys,
}

/// A listing that is being read.
struct Pages<'a> {
    range: &'a KeyRange,
    content: Content,
    listing: Listing,
    /// Where the next page begins.
    from: Bytes,
    /// Keys of the next page at most.
    page: usize,
    /// Bytes read so far, and at most.
    bytes: (usize, usize),
    /// All is read.
    complete: bool,
}

impl Pages<'_> {
    /// The request for the next page.
    fn request(&self) -> rpc::RangeRequest {
        rpc::RangeRequest {
            key: self.from.clone(),
            range_end: self.range.to.clone().into(),
            limit: i64::try_from(self.page).unwrap_or(i64::MAX),
            revision: self.listing.revision,
            keys_only: self.content == Content::Keys,
            ..Default::default()
        }
    }

    /// Takes a page of an answer with this header.
    fn take(
        &mut self,
        header: Option<&rpc::ResponseHeader>,
        answer: rpc::RangeResponse,
    ) -> Result<(), Error> {
        if let Some(header) = header {
            self.listing.cluster_id = header.cluster_id;
            if self.listing.revision == 0 {
                self.listing.revision = header.revision;
            }
        }
        let (bytes, limit) = &mut self.bytes;
        *bytes += answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
        if *bytes > *limit {
            return Err(Error::TooLarge {
                place: String::from_utf8_lossy(&self.range.from).into_owned(),
                problem: format!("more than {limit} bytes below it"),
            });
        }
        self.listing.pairs.extend(answer.kvs.into_iter().map(Pair::from));
        match self.listing.pairs.last() {
            Some(last) if answer.more => {
                // The key that follows: no other one fits between.
                let mut from = last.key.to_vec();
                from.push(0);
                self.from = from.into();
            }
            _ => self.complete = true,
        }
        Ok(())
    }
}

impl Store {
    /// All keys of a range at one revision (`None`: the newest), read in pages. Nothing there is an empty listing.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`Options::listing_limit`](crate::Options::listing_limit); [`Error::Compacted`] with
    /// a revision that is forgotten; [`Error::Changing`] when the newest one is, again and again, before the last page
    /// is read.
    pub async fn list(
        &self,
        range: &KeyRange,
        content: Content,
        revision: Option<i64>,
    ) -> Result<Listing, Error> {
        let [listing] = self.list_together([range], content, revision).await?;
        Ok(listing)
    }

    /// What `path` covers, itself included, at one revision, as [`Store::list`].
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_path(
        &self,
        path: &KeyPath,
        content: Content,
        revision: Option<i64>,
    ) -> Result<Listing, Error> {
        if path.is_root() {
            return self.list(&path.below(), content, revision).await;
        }
        let [own, below] = self.list_together([&path.into(), &path.below()], content, revision).await?;
        Ok(own.followed_by(below))
    }

    /// Several ranges, all at the same revision, each as by [`Store::list`]. What is small costs one request for all.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_together<const N: usize>(
        &self,
        ranges: [&KeyRange; N],
        content: Content,
        revision: Option<i64>,
    ) -> Result<[Listing; N], Error> {
        for _ in 0..self.options().rounds.max(1) {
            match self.list_once(ranges, content, revision.unwrap_or(0)).await {
                // The revision of the first page went away under our hands.
                Err(Error::Compacted) if revision.is_none() => {}
                result => return result,
            }
        }
        let place = ranges.first().map(|range| String::from_utf8_lossy(&range.from).into_owned());
        Err(Error::Changing { place: place.unwrap_or_default() })
    }

    async fn list_once<const N: usize>(
        &self,
        ranges: [&KeyRange; N],
        content: Content,
        revision: i64,
    ) -> Result<[Listing; N], Error> {
        let options = self.options();
        let mut all = ranges.map(|range| Pages {
            range,
            content,
            listing: Listing { revision, cluster_id: 0, pairs: Vec::new() },
            from: range.from.clone().into(),
            page: options.page_keys.max(1),
            bytes: (0, options.listing_limit),
            complete: false,
        });
        if N > 1 {
            match self.first_pages(&mut all).await {
                // One page after the other, then.
                Err(Error::TooLarge { .. }) if all.iter().all(|pages| pages.bytes.0 == 0) => {}
                result => result?,
            }
        }
        let mut revision = revision;
        for pages in &mut all {
            if pages.listing.revision == 0 {
                pages.listing.revision = revision;
            }
            while !pages.complete {
                match self.range(pages.request()).await {
                    Err(Error::TooLarge { .. }) if pages.page > 1 => pages.page /= 2,
                    answer => {
                        let mut answer = answer?;
                        let header = answer.header.take();
                        pages.take(header.as_ref(), answer)?;
                    }
                }
            }
            revision = pages.listing.revision;
        }
        Ok(all.map(|pages| pages.listing))
    }

    /// The first page of each, by one transaction.
    async fn first_pages(&self, all: &mut [Pages<'_>]) -> Result<(), Error> {
        let read =
            |pages: &Pages<'_>| rpc::RequestOp { request: Some(Request::RequestRange(pages.request())) };
        let request = rpc::TxnRequest { success: all.iter().map(read).collect(), ..Default::default() };
        let answer = self.txn(request, Repeat::Freely).await?;
        for (pages, op) in all.iter_mut().zip(answer.responses) {
            if let Some(Response::ResponseRange(page)) = op.response {
                pages.take(answer.header.as_ref(), page)?;
            }
        }
        Ok(())
    }
}

impl Listing {
    /// With the pairs of another one, which come later.
    pub fn followed_by(mut self, other: Listing) -> Listing {
        self.pairs.extend(other.pairs);
        self
    }
}
