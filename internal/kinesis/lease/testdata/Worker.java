// A worker of the Kinesis Client Library 2.x: it reads a stream from its beginning, saves its
// position after every batch, and prints a line for each thing that happens to it.
//
// Arguments: endpoint of Kinesis, endpoint of DynamoDB, stream, application, worker, fail-over
// time in milliseconds.

import java.net.URI;
import java.nio.charset.StandardCharsets;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsAsyncClientBuilder;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

public class Worker {
  static synchronized void say(String what, String shard, String more) {
    System.out.println(what + " " + shard + " " + more);
    System.out.flush();
  }

  static <B extends AwsClientBuilder<B, C> & AwsAsyncClientBuilder<B, C>, C> C client(B builder, String endpoint) {
    var credentials = StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test"));
    return builder.region(Region.US_EAST_1).credentialsProvider(credentials).endpointOverride(URI.create(endpoint))
        .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1)).build();
  }

  static class Reader implements ShardRecordProcessor {
    String shard;

    public void initialize(InitializationInput in) {
      shard = in.shardId();
      say("hold", shard, in.extendedSequenceNumber().sequenceNumber());
    }

    public void processRecords(ProcessRecordsInput in) {
      for (KinesisClientRecord r : in.records()) {
        say("read", shard, StandardCharsets.UTF_8.decode(r.data()).toString());
      }
      if (!in.records().isEmpty()) {
        save(in.checkpointer());
      }
    }

    void save(RecordProcessorCheckpointer c) {
      try {
        c.checkpoint();
      } catch (Exception e) {
        say("unsaved", shard, e.getClass().getSimpleName());
      }
    }

    public void leaseLost(LeaseLostInput in) {
      say("lost", shard, "");
    }

    public void shardEnded(ShardEndedInput in) {
      save(in.checkpointer());
      say("lost", shard, "ended");
    }

    public void shutdownRequested(ShutdownRequestedInput in) {
      save(in.checkpointer());
    }
  }

  public static void main(String[] a) {
    var kinesis = client(KinesisAsyncClient.builder(), a[0]);
    var dynamo = client(DynamoDbAsyncClient.builder(), a[1]);
    var watch = client(CloudWatchAsyncClient.builder(), "http://127.0.0.1:9");
    var start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
    var b = new ConfigsBuilder(a[2], a[3], kinesis, dynamo, watch, a[4], Reader::new);
    var scheduler = new Scheduler(
        b.checkpointConfig(), b.coordinatorConfig().parentShardPollIntervalMillis(500),
        b.leaseManagementConfig().failoverTimeMillis(Long.parseLong(a[5])).shardSyncIntervalMillis(2000).initialPositionInStream(start),
        b.lifecycleConfig(), b.metricsConfig().metricsFactory(new NullMetricsFactory()), b.processorConfig(),
        b.retrievalConfig().initialPositionInStreamExtended(start)
            .retrievalSpecificConfig(new PollingConfig(a[2], kinesis).idleTimeBetweenReadsInMillis(300)));
    scheduler.run();
  }
}
