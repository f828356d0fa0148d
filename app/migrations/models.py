"""Imports every table, so that ``Base.metadata`` is whole."""

from app.audit import models as audit
from app.gateway import models as gateway
from app.kit.db import Base
from app.links import models as links
from app.policy import models as policy
from app.protection import incident_models as incidents
from app.protection import mail_models as mails
from app.protection import models as protection
from app.tenants import models as tenants
from app.verdicts.sources import models as sources

__all__ = ["Base", "audit", "gateway", "incidents", "links", "mails", "policy", "protection", "sources", "tenants"]
