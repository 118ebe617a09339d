// What Kafka's own classes write and read, beside ours. Run as a single source file with Kafka's jars on the class path:
//
//   java -cp 'jars/*' KafkaLog.java write DIRECTORY     the golden files of tests/log/golden
//   java -cp 'jars/*' KafkaLog.java read DIRECTORY      a partition's directory as Kafka opens it, one finding a line

import java.io.File;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.storage.internals.checkpoint.LeaderEpochCheckpointFile;
import org.apache.kafka.storage.internals.checkpoint.OffsetCheckpointFile;
import org.apache.kafka.storage.internals.checkpoint.PartitionMetadataFile;
import org.apache.kafka.storage.internals.log.AbortedTxn;
import org.apache.kafka.storage.internals.log.BatchMetadata;
import org.apache.kafka.storage.internals.log.EpochEntry;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogSegment;
import org.apache.kafka.storage.internals.log.ProducerStateEntry;
import org.apache.kafka.storage.internals.log.ProducerStateManager;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;
import org.apache.kafka.storage.internals.log.TransactionIndex;

public class KafkaLog {
    static final TopicPartition PARTITION = new TopicPartition("orders", 0);
    static final long BASE = 1000;
    static final long NOW = 1_700_000_000_000L;

    static LogConfig config() {
        Properties properties = new Properties();
        properties.put("index.interval.bytes", "300");
        properties.put("segment.index.bytes", "1200");
        return new LogConfig(properties);
    }

    public static void main(String[] arguments) throws Exception {
        File directory = new File(arguments[1]);
        if (arguments[0].equals("write")) {
            write(directory);
        } else {
            read(directory);
        }
    }

    static void write(File directory) throws Exception {
        directory.mkdirs();
        LogSegment segment = LogSegment.open(directory, BASE, config(), Time.SYSTEM, 0, false);
        long offset = BASE;
        Compression[] codecs = {Compression.NONE, Compression.gzip().build(), Compression.lz4().build()};
        long[] times = {0, 5, 3, 3, 9, 9, 20, 1, 2, 21, 22, 22, 7, 30, 29, 28, 31, 31, 40, 2};
        for (int number = 0; number < times.length; number++) {
            SimpleRecord[] records = new SimpleRecord[1 + number % 3];
            for (int each = 0; each < records.length; each++) {
                records[each] = new SimpleRecord(
                    NOW + times[number] + each % 2, ("k" + number).getBytes(), new byte[60 + 10 * (number % 4)]);
            }
            MemoryRecords batch = MemoryRecords.withIdempotentRecords(
                RecordBatch.CURRENT_MAGIC_VALUE, offset, codecs[number % 3], 7L, (short) 1, (int) (offset - BASE),
                2 + number / 8, records);
            segment.append(offset + records.length - 1, batch);
            offset += records.length;
        }
        segment.onBecomeInactiveSegment();
        segment.flush();
        segment.close();

        Map<Long, ProducerStateEntry> producers = new TreeMap<>();
        producers.put(7L, new ProducerStateEntry(
            7L, (short) 1, -1, NOW + 2, OptionalLong.empty(), Optional.of(new BatchMetadata(38, offset - 1, 1, NOW + 2))));
        producers.put(9L, new ProducerStateEntry(
            9L, (short) 3, 4, NOW + 8, OptionalLong.of(1005), Optional.of(new BatchMetadata(0, 1010, 2, NOW + 8))));
        ProducerStateManager.writeSnapshot(new File(directory, String.format("%020d.snapshot", offset)), producers, true);

        TransactionIndex transactions = new TransactionIndex(BASE, new File(directory, String.format("%020d.txnindex", BASE)));
        transactions.append(new AbortedTxn(7, 1001, 1004, 1002));
        transactions.append(new AbortedTxn(9, 1005, 1020, 1021));
        transactions.flush();
        transactions.close();

        new LeaderEpochCheckpointFile(LeaderEpochCheckpointFile.newFile(directory), null)
            .write(List.of(new EpochEntry(2, BASE), new EpochEntry(3, 1015), new EpochEntry(4, 1031)));
        Map<TopicPartition, Long> offsets = new HashMap<>();
        offsets.put(PARTITION, 1039L);
        new OffsetCheckpointFile(new File(directory, "recovery-point-offset-checkpoint"), null).write(offsets);
        PartitionMetadataFile metadata = new PartitionMetadataFile(PartitionMetadataFile.newFile(directory), null);
        metadata.record(Uuid.fromString("AAAAAAAAAAAAAAAAAAAAAQ"));
        metadata.maybeFlush();
    }

    static void read(File directory) throws Exception {
        File[] files = directory.listFiles();
        Arrays.sort(files);
        long end = 0;
        for (File file : files) {
            if (file.getName().endsWith(".log")) {
                end = readSegment(directory, Long.parseLong(file.getName().substring(0, 20)));
            }
        }
        ProducerStateManager producers = new ProducerStateManager(
            PARTITION, directory, 900_000, new ProducerStateManagerConfig(86_400_000, false), Time.SYSTEM);
        producers.truncateAndReload(0, end, NOW);
        System.out.println("producers at " + producers.mapEndOffset());
        new TreeMap<>(producers.activeProducers()).forEach((id, entry) -> System.out.println(
            "producer " + id + " epoch " + entry.producerEpoch() + " sequences " + entry.firstSeq() + "-" + entry.lastSeq()
            + " offsets " + entry.firstDataOffset() + "-" + entry.lastDataOffset()));
        for (EpochEntry epoch : new LeaderEpochCheckpointFile(LeaderEpochCheckpointFile.newFile(directory), null).read()) {
            System.out.println("epoch " + epoch.epoch + " from " + epoch.startOffset);
        }
        System.out.println("topic " + new PartitionMetadataFile(PartitionMetadataFile.newFile(directory), null).read().topicId());
    }

    static long readSegment(File directory, long base) throws Exception {
        LogSegment segment = LogSegment.open(directory, base, config(), Time.SYSTEM, true, 0, false, "");
        segment.sanityCheck(false);
        segment.offsetIndex().sanityCheck();
        segment.timeIndex().sanityCheck();
        long next = segment.readNextOffset();
        System.out.println("segment " + base + " to " + next + " of " + segment.size() + " bytes, latest "
            + segment.readMaxTimestampAndOffsetSoFar().timestamp + " at " + segment.readMaxTimestampAndOffsetSoFar().offset);
        for (RecordBatch batch : segment.log().batches()) {
            batch.ensureValid();
            int position = segment.translateOffset(batch.lastOffset()).position;
            System.out.println("batch " + batch.baseOffset() + " at " + position + ", time "
                + segment.findOffsetByTimestamp(batch.maxTimestamp(), base).get().offset);
        }
        segment.close();
        return next;
    }
}
