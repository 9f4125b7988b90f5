"""A Lambda function as Amazon Data Firehose invokes it: it adds what queries ask for."""

import base64
import json
from datetime import datetime, timezone


def handler(event, context):
    return {"records": [transform(record) for record in event["records"]]}


def transform(record):
    answer = {"recordId": record["recordId"]}
    try:
        e = json.loads(base64.b64decode(record["data"]))
        kind, subtype = e["event_name"].split(":")
        if kind == "probe":
            return answer | {"result": "Dropped"}
        at = datetime.fromtimestamp(e["created_at"], timezone.utc)
    except (AttributeError, KeyError, TypeError, ValueError):
        return answer | {"result": "ProcessingFailed", "data": record["data"]}
    e |= {"event_type": kind, "event_subtype": subtype, "created_datetime": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return answer | {"result": "Ok", "data": base64.b64encode(json.dumps(e).encode()).decode()}
