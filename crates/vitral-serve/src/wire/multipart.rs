//! Forms with files: `multipart/form-data` (RFC 7578).

use bytes::Bytes;

use crate::fault::Fault;

/// The parts of a form.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// Name, as the client gave it, and contents of each file.
    pub(crate) files: Vec<(Option<String>, Bytes)>,
    /// Name and value of each field that is not a file.
    pub(crate) fields: Vec<(String, String)>,
}

/// Reads a form; `content_type` is the header that names its boundary.
pub(crate) async fn form(content_type: &str, body: Bytes) -> Result<Form, Fault> {
    let wrong =
        |fault: multer::Error| Fault::bad(format!("expected a form with files, found one that is broken: {fault}"));
    let boundary = multer::parse_boundary(content_type).map_err(wrong)?;
    let stream = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(wrong)? {
        let file = part.file_name().map(str::to_owned);
        // Without a file name, only a media type tells a file from a field.
        let is_file = file.is_some() || part.content_type().is_some_and(|kind| kind.type_() != "text");
        let name = part.name().unwrap_or_default().to_owned();
        if is_file {
            form.files.push((file, part.bytes().await.map_err(wrong)?));
        } else {
            form.fields.push((name, part.text().await.map_err(wrong)?));
        }
    }
    Ok(form)
}
