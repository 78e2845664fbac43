"""Settings files as the readmes of the systems show them whose work this project does."""

__all__ = ["AEVATAR_README", "SDK_OFFLINE", "SDK_README", "SDK_RETRIES"]

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

SDK_OFFLINE = """{
  "OfflineResilience": {
    "Enabled": true,
    "LocalStoragePath": "./worker_data",
    "SyncIntervalSeconds": 60
  }
}"""
"""The same readme about the outbox: a section that neither the .NET SDK nor we read at this place."""

SDK_RETRIES = """{
  "JobConsumers": {
    "UnreliableApiJob": {
      "ConsumerId": "api-consumer",
      "MaxRetries": 5,
      "BaseRetryDelaySeconds": 30
    }
  }
}"""
"""The same readme about retries."""

AEVATAR_README = """{
  "App": {
    "Name": "Aevatar.Worker"
  },
  "ConnectionStrings": {
    "Default": "mongodb://localhost:27017/Aevatar"
  },
  "Orleans": {
    "ClusterId": "dev",
    "ServiceId": "AevatarSilo",
    "ClientName": "WorkerClient"
  },
  "Redis": {
    "Configuration": "localhost:6379"
  },
  "Dapr": {
    "HttpPort": 3500,
    "GrpcPort": 50001
  },
  "Serilog": {
    "MinimumLevel": {
      "Default": "Information",
      "Override": {
        "Microsoft": "Warning",
        "System": "Warning"
      }
    }
  }
}"""
"""The settings file that the readme of Aevatar.Worker shows."""
