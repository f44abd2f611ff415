//! Requests and options, as keyword dictionaries.

use std::path::PathBuf;
use std::time::Duration;

use dragonfly_core::{Digest, Request};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::invalid;

/// An item of a dictionary that is neither missing nor None.
pub(crate) fn item<'py, T>(given: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    match given.get_item(name)? {
        Some(value) if !value.is_none() => value.extract().map(Some),
        _ => Ok(None),
    }
}

/// Seconds as a duration; what is no time at all is the longest one.
pub(crate) fn seconds(given: f64) -> Duration {
    Duration::try_from_secs_f64(given.max(0.0)).unwrap_or(Duration::MAX)
}

/// A request from `dragonfly._types.request()`.
pub(crate) fn request(py: Python<'_>, given: &Bound<'_, PyDict>) -> PyResult<Request> {
    let mut request = Request::new(item::<String>(given, "url")?.unwrap_or_default());
    if let Some(output) = item::<PathBuf>(given, "output")? {
        request = request.output(output);
    }
    if let Some(overwrite) = item(given, "overwrite")? {
        request = request.overwrite(overwrite);
    }
    if let Some(digest) = item::<String>(given, "digest")? {
        request = request.digest(digest.parse::<Digest>().map_err(|e| invalid(py, "the digest", e))?);
    }
    for (name, value) in item::<Vec<(String, String)>>(given, "headers")?.unwrap_or_default() {
        request = request.header(name, value);
    }
    if let Some(tag) = item::<String>(given, "tag")? {
        request = request.tag(tag);
    }
    if let Some(application) = item::<String>(given, "application")? {
        request = request.application(application);
    }
    if let Some(names) = item::<Vec<String>>(given, "filtered_query_params")? {
        request = request.filtered_query_params(names);
    }
    if let Some(priority) = item(given, "priority")? {
        request = request.priority(priority);
    }
    if let Some(timeout) = item(given, "timeout")? {
        request = request.timeout(seconds(timeout));
    }
    if let Some(allowed) = item(given, "back_to_source")? {
        request = request.back_to_source(allowed);
    }
    if let Some(pem) = item::<Vec<u8>>(given, "ca_pem")? {
        request = request.ca_pem(pem);
    }
    if let Some(insecure) = item(given, "insecure")? {
        request = request.insecure(insecure);
    }
    if let Some(age) = item(given, "age_max")? {
        request = request.age_max(seconds(age));
    }
    if let Some(stale) = item(given, "stale_ok")? {
        request = request.stale_ok(stale);
    }
    Ok(request)
}
