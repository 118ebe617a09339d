import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's Java client as a worker: a line of JSON in, a line out (README.md). */
public class Worker {
    static final ObjectMapper JSON = new ObjectMapper();
    static final long WAIT_S = 30;
    static final Map<String, String> ASSIGNORS = Map.of(
        "range", "org.apache.kafka.clients.consumer.RangeAssignor",
        "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
        "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
        "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

    static class Unsupported extends RuntimeException {
        Unsupported(String why) {
            super(why);
        }
    }

    String servers;
    Admin admin;
    final Map<String, KafkaConsumer<byte[], byte[]>> members = new HashMap<>();
    final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Worker worker = new Worker();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(JSON.writeValueAsString(worker.answer(JSON.readTree(line))));
        }
        Runtime.getRuntime().halt(0);
    }

    Map<String, Object> answer(JsonNode asked) {
        try {
            return Map.of("ok", act(asked));
        } catch (Unsupported why) {
            return Map.of("unsupported", why.getMessage());
        } catch (Throwable error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            Errors known = Errors.forException(cause);
            Map<String, Object> said = new HashMap<>();
            said.put("code", known == Errors.UNKNOWN_SERVER_ERROR ? null : known.code());
            said.put("name", cause.getClass().getSimpleName());
            said.put("message", String.valueOf(cause.getMessage()));
            return Map.of("error", said);
        }
    }

    Object act(JsonNode asked) throws Exception {
        String member = text(asked, "member", null);
        return switch (asked.get("do").asText()) {
            case "hello" -> hello(asked.get("servers").asText());
            case "produce" -> produce(asked);
            case "consume" -> consume(asked);
            case "join" -> join(asked);
            case "poll" -> read(members.get(member), asked.get("count").asInt(), asked.get("timeout_s").asDouble());
            case "assignment" -> members.get(member).assignment().stream()
                .map(each -> List.of(each.topic(), each.partition())).toList();
            case "commit" -> commit(members.get(member));
            case "committed" -> committed(members.get(member), asked.get("topic").asText());
            case "leave" -> leave(member, asked.path("silent").asBoolean(false));
            case "admin" -> admin(asked.get("call").asText(), asked);
            default -> throw new Unsupported(asked.get("do").asText());
        };
    }

    Object hello(String servers) {
        this.servers = servers;
        admin = Admin.create(Map.of("bootstrap.servers", servers));
        return Map.of("client", "java", "version", AppInfoParser.getVersion());
    }

    // --- records ----------------------------------------------------------------------------------------------------

    Object produce(JsonNode asked) throws Exception {
        String keep = text(asked, "keep", null);
        KafkaProducer<byte[], byte[]> producer = keep == null ? null : producers.get(keep);
        if (producer == null) {
            producer = newProducer(asked);
        }
        if (keep != null) {
            producers.put(keep, producer);
        }
        try {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode each : asked.get("records")) {
                sent.add(producer.send(toSend(asked.get("topic").asText(), each)));
            }
            producer.flush();
            List<List<Long>> places = new ArrayList<>();
            for (Future<RecordMetadata> each : sent) {
                RecordMetadata found = each.get(60, TimeUnit.SECONDS);
                places.add(List.of((long) found.partition(), found.hasOffset() ? found.offset() : -1L));
            }
            return places;
        } finally {
            if (keep == null) {
                producer.close(Duration.ofSeconds(10));
            }
        }
    }

    KafkaProducer<byte[], byte[]> newProducer(JsonNode asked) {
        String acks = text(asked, "acks", "all");
        return new KafkaProducer<>(Map.of(
            "bootstrap.servers", servers,
            "compression.type", text(asked, "codec", "none"),
            "acks", acks,
            "enable.idempotence", asked.path("idempotent").asBoolean(true) && acks.equals("all"),
            "linger.ms", asked.path("linger_ms").asInt(5),
            "max.request.size", 20_000_000,
            "delivery.timeout.ms", 60_000,
            "key.serializer", ByteArraySerializer.class,
            "value.serializer", ByteArraySerializer.class));
    }

    static ProducerRecord<byte[], byte[]> toSend(String topic, JsonNode each) {
        List<Header> headers = new ArrayList<>();
        for (JsonNode header : each.get("headers")) {
            headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
        }
        JsonNode partition = each.get("partition");
        JsonNode timestamp = each.get("timestamp");
        return new ProducerRecord<>(
            topic, partition.isNull() ? null : partition.asInt(), timestamp.isNull() ? null : timestamp.asLong(),
            bytes(each.get("key")), bytes(each.get("value")), headers);
    }

    Map<String, Object> consumerSettings() {
        return new HashMap<>(Map.of(
            "bootstrap.servers", servers,
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false,
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class));
    }

    Object consume(JsonNode asked) {
        Map<String, Object> settings = consumerSettings();
        settings.put("isolation.level", text(asked, "isolation", "read_uncommitted"));
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            List<TopicPartition> partitions = consumer.partitionsFor(asked.get("topic").asText()).stream()
                .map(each -> new TopicPartition(each.topic(), each.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            return read(consumer, asked.get("count").asInt(), asked.get("timeout_s").asDouble());
        }
    }

    static List<Object> read(KafkaConsumer<byte[], byte[]> consumer, int count, double timeoutS) {
        List<Object> found = new ArrayList<>();
        long deadline = System.nanoTime() + (long) (timeoutS * 1e9);
        while (found.size() < count && System.nanoTime() < deadline) {
            for (ConsumerRecord<byte[], byte[]> each : consumer.poll(Duration.ofMillis(200))) {
                found.add(read(each));
            }
        }
        return found;
    }

    static Object read(ConsumerRecord<byte[], byte[]> each) {
        List<List<Object>> headers = new ArrayList<>();
        for (Header header : each.headers()) {
            List<Object> pair = new ArrayList<>();
            pair.add(header.key());
            pair.add(encode(header.value()));
            headers.add(pair);
        }
        Map<String, Object> record = new HashMap<>();
        record.put("topic", each.topic());
        record.put("partition", each.partition());
        record.put("offset", each.offset());
        record.put("key", encode(each.key()));
        record.put("value", encode(each.value()));
        record.put("headers", headers);
        record.put("timestamp", each.timestamp());
        return record;
    }

    // --- groups -----------------------------------------------------------------------------------------------------

    Object join(JsonNode asked) {
        Map<String, Object> settings = consumerSettings();
        String protocol = text(asked, "protocol", "classic");
        String assignor = text(asked, "assignor", protocol.equals("classic") ? "range" : "uniform");
        int sessionMs = asked.path("session_ms").asInt(10_000);
        settings.put("group.id", asked.get("group").asText());
        settings.put("group.protocol", protocol);
        settings.put("enable.auto.commit", asked.path("auto_commit").asBoolean(false));
        if (protocol.equals("classic")) {
            settings.put("partition.assignment.strategy", ASSIGNORS.get(assignor));
            settings.put("session.timeout.ms", sessionMs);
            settings.put("heartbeat.interval.ms", sessionMs / 5);
            settings.put("metadata.max.age.ms", 1_000);
        } else {
            settings.put("group.remote.assignor", assignor);
        }
        if (text(asked, "instance", null) != null) {
            settings.put("group.instance.id", asked.get("instance").asText());
        }
        String pattern = text(asked, "pattern", null);
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings);
        members.put(asked.get("member").asText(), consumer);
        if (pattern != null && protocol.equals("consumer")) {
            consumer.subscribe(new SubscriptionPattern(pattern));
        } else if (pattern != null) {
            consumer.subscribe(java.util.regex.Pattern.compile(pattern));
        } else {
            List<String> topics = new ArrayList<>();
            asked.get("topics").forEach(each -> topics.add(each.asText()));
            consumer.subscribe(topics);
        }
        return Map.of();
    }

    Object commit(KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        for (int attempt = 0; ; attempt++) {
            try {
                consumer.commitSync(Duration.ofSeconds(WAIT_S));
                return Map.of();
            } catch (RetriableException error) {
                if (attempt == 5) {
                    throw error;
                }
                consumer.poll(Duration.ofMillis(200));
            }
        }
    }

    Object committed(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        Set<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
            .map(each -> new TopicPartition(each.topic(), each.partition())).collect(Collectors.toSet());
        return offsets(consumer.committed(partitions, Duration.ofSeconds(WAIT_S)), topic);
    }

    static Map<Integer, Long> offsets(Map<TopicPartition, OffsetAndMetadata> found, String topic) {
        Map<Integer, Long> offsets = new TreeMap<>();
        found.forEach((where, each) -> {
            if (each != null && where.topic().equals(topic)) {
                offsets.put(where.partition(), each.offset());
            }
        });
        return offsets;
    }

    Object leave(String member, boolean silent) {
        CloseOptions how = CloseOptions.timeout(Duration.ofSeconds(WAIT_S));
        if (silent) {
            how = how.withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP);
        }
        members.remove(member).close(how);
        return Map.of();
    }

    // --- admin ------------------------------------------------------------------------------------------------------

    Object admin(String call, JsonNode asked) throws Exception {
        String topic = text(asked, "topic", null);
        String group = text(asked, "group", null);
        ConfigResource resource = topic == null ? null : new ConfigResource(ConfigResource.Type.TOPIC, topic);
        TopicPartition where = topic == null ? null : new TopicPartition(topic, asked.path("partition").asInt(0));
        switch (call) {
            case "create_topic" -> {
                Map<String, String> configs = new HashMap<>();
                asked.get("configs").fields().forEachRemaining(e -> configs.put(e.getKey(), e.getValue().asText()));
                NewTopic made = new NewTopic(topic, asked.get("partitions").asInt(), (short) asked.get("replicas").asInt());
                admin.createTopics(List.of(made.configs(configs))).all().get(WAIT_S, TimeUnit.SECONDS);
                return Map.of();
            }
            case "topics" -> {
                return admin.listTopics().names().get(WAIT_S, TimeUnit.SECONDS);
            }
            case "delete_topic" -> {
                admin.deleteTopics(List.of(topic)).all().get(WAIT_S, TimeUnit.SECONDS);
                return Map.of();
            }
            case "grow" -> {
                NewPartitions grown = NewPartitions.increaseTo(asked.get("partitions").asInt());
                admin.createPartitions(Map.of(topic, grown)).all().get(WAIT_S, TimeUnit.SECONDS);
                return Map.of();
            }
            case "describe_topic" -> {
                var found = admin.describeTopics(List.of(topic)).allTopicNames().get(WAIT_S, TimeUnit.SECONDS).get(topic);
                return Map.of("partitions", found.partitions().stream().map(each -> Map.of(
                    "leader", each.leader() == null ? -1 : each.leader().id(),
                    "replicas", ids(each.replicas()), "isr", ids(each.isr()))).toList());
            }
            case "configs" -> {
                Map<String, String> values = new HashMap<>();
                admin.describeConfigs(List.of(resource)).all().get(WAIT_S, TimeUnit.SECONDS).get(resource).entries()
                    .forEach(each -> values.put(each.name(), each.value()));
                return values;
            }
            case "set_config" -> {
                ConfigEntry entry = new ConfigEntry(asked.get("name").asText(), asked.get("value").asText());
                AlterConfigOp change = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
                admin.incrementalAlterConfigs(Map.of(resource, (Collection<AlterConfigOp>) List.of(change)))
                    .all().get(WAIT_S, TimeUnit.SECONDS);
                return Map.of();
            }
            case "trim" -> {
                RecordsToDelete below = RecordsToDelete.beforeOffset(asked.get("offset").asLong());
                return admin.deleteRecords(Map.of(where, below)).lowWatermarks().get(where)
                    .get(WAIT_S, TimeUnit.SECONDS).lowWatermark();
            }
            case "groups" -> {
                return admin.listGroups().all().get(WAIT_S, TimeUnit.SECONDS).stream()
                    .map(GroupListing::groupId).toList();
            }
            case "describe_group" -> {
                var found = admin.describeConsumerGroups(List.of(group)).all().get(WAIT_S, TimeUnit.SECONDS).get(group);
                return Map.of(
                    "state", found.groupState().toString().toLowerCase(), "members", found.members().size());
            }
            case "offsets" -> {
                return offsets(
                    admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(WAIT_S, TimeUnit.SECONDS),
                    topic);
            }
            case "delete_group" -> {
                admin.deleteConsumerGroups(List.of(group)).all().get(WAIT_S, TimeUnit.SECONDS);
                return Map.of();
            }
            case "cluster" -> {
                var found = admin.describeCluster();
                return Map.of(
                    "brokers", ids(found.nodes().get(WAIT_S, TimeUnit.SECONDS)).stream().sorted().toList(),
                    "controller", found.controller().get(WAIT_S, TimeUnit.SECONDS).id());
            }
            case "producers" -> {
                return admin.describeProducers(List.of(where)).partitionResult(where).get(WAIT_S, TimeUnit.SECONDS)
                    .activeProducers().stream().map(ProducerState::producerId).toList();
            }
            case "offset_at" -> {
                return admin.listOffsets(Map.of(where, spec(asked.get("timestamp").asLong()))).partitionResult(where)
                    .get(WAIT_S, TimeUnit.SECONDS).offset();
            }
            default -> throw new Unsupported(call);
        }
    }

    static OffsetSpec spec(long timestamp) {
        if (timestamp == -1) {
            return OffsetSpec.latest();
        }
        if (timestamp == -2) {
            return OffsetSpec.earliest();
        }
        return timestamp == -3 ? OffsetSpec.maxTimestamp() : OffsetSpec.forTimestamp(timestamp);
    }

    static List<Integer> ids(Collection<Node> nodes) {
        return nodes.stream().map(Node::id).toList();
    }

    static String text(JsonNode asked, String name, String otherwise) {
        return asked.hasNonNull(name) ? asked.get(name).asText() : otherwise;
    }

    static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    static String encode(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }
}
