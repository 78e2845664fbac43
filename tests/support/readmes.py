"""Settings files as the readmes of the systems show them whose work this project does."""

__all__ = ["SDK_README"]

SDK_README = """{
  "Worker": {
    "WorkerId": "email-worker",
    "MaxParallelJobs": 5,
    "RabbitMQ": {
      "Host": "localhost",
      "Port": 5672,
      "Username": "guest",
      "Password": "guest",
      "VirtualHost": "/"
    },
    "Redis": {
      "ConnectionString": "localhost:6379",
      "Database": 0
    },
    "Heartbeat": {
      "Enabled": true,
      "IntervalSeconds": 30
    },
    "OfflineResilience": {
      "Enabled": true,
      "LocalStoragePath": "./worker_data"
    }
  },
  "JobConsumers": {
    "SendEmailJob": {
      "ConsumerId": "sendemail-consumer",
      "MaxParallelJobs": 3,
      "ExecutionTimeoutSeconds": 300,
      "MaxRetries": 3,
      "BaseRetryDelaySeconds": 60,
      "RoutingPatterns": ["sendemail.*"]
    }
  }
}"""
"""The settings file that the readme of the .NET SDK shows."""
