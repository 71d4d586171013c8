"""Running the mill as a service: servers, deployments, links, notifications, retention, checks."""
