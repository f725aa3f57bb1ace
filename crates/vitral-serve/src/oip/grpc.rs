//! The protocol over gRPC.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status, Streaming};

use super::admission::Holding;
use super::http::{config_body, index_bodies, statistics_body};
use super::json::DurationBody;
use super::{InferRequest, InputData, InputTensor, OutputData, OutputTensor, WantedOutput, describe, infer};
use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::metrics::VERSION;
use crate::trace::milliseconds;
use crate::wire::inference::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use crate::wire::inference::infer_parameter::ParameterChoice;
use crate::wire::inference::model_infer_request::InferInputTensor;
use crate::wire::inference::model_infer_response::InferOutputTensor;
use crate::wire::inference::model_metadata_response::TensorMetadata;
use crate::wire::inference::repository_index_response::ModelIndex;
use crate::wire::inference::{
    DataType, InferBatchStatistics, InferParameter, InferStatistics, InferTensorContents, ModelConfig,
    ModelConfigRequest, ModelConfigResponse, ModelDynamicBatching, ModelInferRequest, ModelInferResponse, ModelInput,
    ModelMetadataRequest, ModelMetadataResponse, ModelOutput, ModelQueuePolicy, ModelReadyRequest, ModelReadyResponse,
    ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest,
    RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, StatisticDuration,
};
use crate::wire::tensors;

/// Room for what a message has beside its tensors.
const ENVELOPE: usize = 1 << 20;

/// The service.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<App>);

impl Service {
    /// The service within the limits of the server.
    pub(crate) fn server(self) -> GrpcInferenceServiceServer<Self> {
        // One message alone must find room.
        let limit = (self.0.options.max_body + ENVELOPE).min(self.0.options.max_bodies);
        GrpcInferenceServiceServer::new(self)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
    }

    async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Fault> {
        let started = Instant::now();
        let found = self.answer(request).await;
        let code = found.as_ref().map_or_else(|fault| Status::from(fault.clone()).code(), |_| Code::Ok);
        self.0.metrics.request(
            "grpc ModelInfer",
            found.as_ref().map_or_else(|f| f.status().as_u16(), |_| 200),
            started.elapsed(),
        );
        let milliseconds = milliseconds(started.elapsed());
        let fault = found.as_ref().err().map(Fault::message);
        tracing::info!(?code, milliseconds, fault, "grpc request");
        found
    }

    async fn answer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Fault> {
        self.0.registry.check_version(&request.model_name, &request.model_version)?;
        let runner = self.0.model(Some(&request.model_name))?;
        let (model_name, id) = (request.model_name.clone(), request.id.clone());
        let request = parsed(request)?;
        let binary = request.binary;
        let (outputs, _) = infer(&runner, request).await?;
        let mut response =
            ModelInferResponse { model_name, model_version: VERSION.to_owned(), id, ..ModelInferResponse::default() };
        for OutputTensor { name, shape, data, .. } in outputs {
            let datatype = data.datatype().to_owned();
            let mut contents = None;
            match data {
                OutputData::Numbers(numbers) if binary => {
                    response.raw_output_contents.push(tensors::from_floats(&numbers));
                }
                OutputData::Texts(texts) if binary => response.raw_output_contents.push(tensors::from_texts(&texts)),
                OutputData::Numbers(fp32_contents) => {
                    contents = Some(InferTensorContents { fp32_contents, bytes_contents: Vec::new() });
                }
                OutputData::Texts(texts) => {
                    let bytes_contents = texts.into_iter().map(|text| text.into_bytes().into()).collect();
                    contents = Some(InferTensorContents { fp32_contents: Vec::new(), bytes_contents });
                }
            }
            response.outputs.push(InferOutputTensor {
                name: name.to_owned(),
                datatype,
                shape: shape.into_iter().map(|side| side as i64).collect(),
                parameters: HashMap::new(),
                contents,
            });
        }
        Ok(response)
    }
}

/// What a message asks for.
pub(crate) fn parsed(request: ModelInferRequest) -> Result<InferRequest, Fault> {
    let ModelInferRequest { parameters, inputs, outputs, raw_input_contents: raw, .. } = request;
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Fault::bad(format!(
            "expected `raw_input_contents` for each of {} inputs, found {}",
            inputs.len(),
            raw.len()
        )));
    }
    // Contents come all in one way or all in the other, and so do the answer's.
    let binary = !raw.is_empty();
    let mut raw = raw.into_iter();
    let inputs = inputs.into_iter().map(|input| tensor(input, raw.next())).collect::<Result<_, _>>()?;
    let wanted = |wanted: crate::wire::inference::model_infer_request::InferRequestedOutputTensor| WantedOutput {
        classes: number(&wanted.parameters, "classification") as usize,
        name: wanted.name,
        binary,
    };
    let outputs = outputs.into_iter().map(wanted).collect();
    let timeout = super::timeout(number(&parameters, "timeout"));
    Ok(InferRequest { inputs, outputs, binary, timeout })
}

/// A parameter that is a number and not negative; 0 if it is absent.
fn number(parameters: &HashMap<String, InferParameter>, name: &str) -> u64 {
    match parameters.get(name).and_then(|parameter| parameter.parameter_choice.as_ref()) {
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(*number).unwrap_or(0),
        Some(ParameterChoice::Uint64Param(number)) => *number,
        _ => 0,
    }
}

fn tensor(input: InferInputTensor, raw: Option<bytes::Bytes>) -> Result<InputTensor, Fault> {
    let InferInputTensor { name, datatype, shape, contents, .. } = input;
    let found = match (raw, contents) {
        (Some(bytes), None) => match datatype.as_str() {
            "BYTES" => tensors::elements(bytes).map(InputData::Elements),
            "FP32" => tensors::floats(&bytes).map(InputData::Numbers),
            other => Err(Fault::bad(format!("expected datatype `BYTES` or `FP32`, found `{other}`"))),
        },
        (None, Some(contents)) => match datatype.as_str() {
            "BYTES" => Ok(InputData::Elements(contents.bytes_contents)),
            "FP32" => Ok(InputData::Numbers(contents.fp32_contents)),
            other => Err(Fault::bad(format!("expected datatype `BYTES` or `FP32`, found `{other}`"))),
        },
        (Some(_), Some(_)) => Err(Fault::bad("expected `contents` or `raw_input_contents`, found both")),
        (None, None) => Err(Fault::bad("expected `contents` or `raw_input_contents`, found neither")),
    };
    let data = found.map_err(|fault| fault.at(&format!("input `{name}`")))?;
    Ok(InputTensor { name, datatype, shape, data })
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = match fault.kind() {
            Kind::BadRequest | Kind::NotAnImage | Kind::TooLarge => Code::InvalidArgument,
            Kind::Unauthorized => Code::Unauthenticated,
            Kind::NotFound => Code::NotFound,
            Kind::WrongMethod => Code::Unimplemented,
            Kind::SlowBody | Kind::Deadline => Code::DeadlineExceeded,
            Kind::Full { .. } => Code::ResourceExhausted,
            Kind::Unavailable => Code::Unavailable,
            Kind::Internal => Code::Internal,
        };
        Status::new(code, fault.message())
    }
}

fn duration(body: DurationBody) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: body.count, ns: body.ns })
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        self.0.registry.check_version(&name, &version)?;
        let ready = !self.0.is_draining() && self.0.registry.get(Some(&name)).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: describe::SERVER.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: describe::EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let runner = self.0.registry.version(&name, &version)?;
        let tensor = |one: describe::TensorShape| TensorMetadata {
            name: one.name.to_owned(),
            datatype: one.datatype.to_owned(),
            shape: one.shape,
        };
        Ok(Response::new(ModelMetadataResponse {
            name,
            versions: vec![VERSION.to_owned()],
            platform: describe::PLATFORM.to_owned(),
            inputs: describe::inputs(&runner).into_iter().map(tensor).collect(),
            outputs: describe::outputs(&runner).into_iter().map(tensor).collect(),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        // The message counts against the memory for bodies until it is answered.
        let holding = request.extensions().get::<Holding>().cloned();
        let message = request.into_inner();
        if let Some(holding) = &holding {
            holding.count(message.encoded_len())?;
        }
        Ok(Response::new(self.infer(message).await?))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let service = self.clone();
        let holding = request.extensions().get::<Holding>().cloned();
        // One after the other: answers come in the order of the requests, and a fault does not end the stream.
        let answers = request.into_inner().then(move |message| {
            let (service, holding) = (service.clone(), holding.clone());
            async move {
                let message = message?;
                let id = message.id.clone();
                let counted = holding.as_ref().map_or(Ok(()), |holding| holding.count(message.encoded_len()));
                let answer = match counted {
                    Ok(()) => service.infer(message).await,
                    Err(fault) => Err(fault),
                };
                // However long the client takes to read the answer.
                if let Some(holding) = &holding {
                    holding.answered();
                }
                Ok(match answer {
                    Ok(response) => {
                        ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
                    }
                    Err(fault) => ModelStreamInferResponse {
                        error_message: fault.message().to_owned(),
                        infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
                    },
                })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let runner = self.0.registry.version(&name, &version)?;
        let body = config_body(&runner, &self.0.options);
        let data_type =
            |name: &str| if name == "TYPE_STRING" { DataType::TypeString } else { DataType::TypeFp32 }.into();
        let batching = body.dynamic_batching;
        let policy = batching.default_queue_policy;
        let config = ModelConfig {
            name: body.name,
            platform: body.platform.to_owned(),
            backend: body.backend.to_owned(),
            max_batch_size: body.max_batch_size as i32,
            input: body
                .input
                .into_iter()
                .map(|input| ModelInput {
                    name: input.name.to_owned(),
                    data_type: data_type(input.data_type),
                    dims: input.dims,
                    optional: input.optional,
                })
                .collect(),
            output: body
                .output
                .into_iter()
                .map(|output| ModelOutput {
                    name: output.name.to_owned(),
                    data_type: data_type(output.data_type),
                    dims: output.dims,
                })
                .collect(),
            dynamic_batching: Some(ModelDynamicBatching {
                preferred_batch_size: batching.preferred_batch_size.into_iter().map(|size| size as i32).collect(),
                max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
                preserve_ordering: false,
                default_queue_policy: Some(ModelQueuePolicy {
                    default_timeout_microseconds: policy.default_timeout_microseconds,
                    allow_timeout_override: policy.allow_timeout_override,
                    max_queue_size: policy.max_queue_size as u32,
                }),
            }),
        };
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let runners =
            if name.is_empty() { self.0.registry.running() } else { vec![self.0.registry.version(&name, &version)?] };
        let statistics = |runner: &Arc<crate::runner::Runner>| {
            let body = statistics_body(runner);
            let all = body.inference_stats;
            ModelStatistics {
                name: body.name,
                version: body.version.to_owned(),
                last_inference: body.last_inference,
                inference_count: body.inference_count,
                execution_count: body.execution_count,
                inference_stats: Some(InferStatistics {
                    success: duration(all.success),
                    fail: duration(all.fail),
                    queue: duration(all.queue),
                    compute_input: duration(all.compute_input),
                    compute_infer: duration(all.compute_infer),
                    compute_output: duration(all.compute_output),
                }),
                batch_stats: body
                    .batch_stats
                    .into_iter()
                    .map(|batch| InferBatchStatistics {
                        batch_size: batch.batch_size,
                        compute_input: duration(batch.compute_input),
                        compute_infer: duration(batch.compute_infer),
                        compute_output: duration(batch.compute_output),
                    })
                    .collect(),
            }
        };
        Ok(Response::new(ModelStatisticsResponse { model_stats: runners.iter().map(statistics).collect() }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let models = index_bodies(&self.0, request.into_inner().ready).into_iter().map(|entry| ModelIndex {
            name: entry.name,
            version: entry.version.to_owned(),
            state: entry.state.to_owned(),
            reason: entry.reason.to_owned(),
        });
        Ok(Response::new(RepositoryIndexResponse { models: models.collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        self.0.check_open()?;
        let RepositoryModelLoadRequest { model_name, parameters, .. } = request.into_inner();
        if let Some(name) = parameters.keys().next() {
            return Err(Fault::bad(format!(
                "expected no parameters, found `{name}`: models are loaded as the server was started with them"
            ))
            .into());
        }
        self.0.registry.load(&model_name).await.map_err(Fault::from)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        self.0.check_open()?;
        self.0.registry.unload(&request.into_inner().model_name).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}
