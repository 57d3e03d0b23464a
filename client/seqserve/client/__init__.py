"""Calls a seqserve service, by REST or, with the extra `grpc`, by gRPC: the same answers and errors by both.

from seqserve.client import Client

with Client("http://127.0.0.1:8000") as client:
    for item in client.translate("en-de", ["two dogs run", "hello"]).items:
        print(item)
"""

from seqserve.client import errors as errors
from seqserve.client.access import Tls as Tls
from seqserve.client.aio import AsyncClient as AsyncClient, AsyncSession as AsyncSession
from seqserve.client.answers import (
    Alternative as Alternative,
    Answers as Answers,
    Appended as Appended,
    ClassAnswer as ClassAnswer,
    FeatureDescription as FeatureDescription,
    HeadAnswer as HeadAnswer,
    HeadDescription as HeadDescription,
    HorizonAnswer as HorizonAnswer,
    Interval as Interval,
    Labelled as Labelled,
    LabelsAnswer as LabelsAnswer,
    Model as Model,
    ModelVersion as ModelVersion,
    Prediction as Prediction,
    Predictions as Predictions,
    SessionState as SessionState,
    StepsAnswer as StepsAnswer,
    TextAnswer as TextAnswer,
    Translation as Translation,
    Translations as Translations,
    ValueAnswer as ValueAnswer,
    VersionStatus as VersionStatus,
    WarningDetail as WarningDetail,
)
from seqserve.client.blocking import Client as Client, Session as Session
from seqserve.client.errors import ServiceError as ServiceError
