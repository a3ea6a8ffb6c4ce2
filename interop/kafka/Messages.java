import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What a broker is asked to do: Messages BROKER create TOPIC | produce TOPIC FROM TO | consume TOPIC COUNT | delete TOPIC |
 * configure TOPIC. Exit code 0 if it did.
 */
public final class Messages {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("acks", "all");
        settings.put("delivery.timeout.ms", "120000");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        String topic = args[2];
        switch (args[1]) {
            case "create" -> with(settings, admin -> {
                admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1))).all().get(60, TimeUnit.SECONDS);
                Set<String> names = admin.listTopics().names().get(60, TimeUnit.SECONDS);
                require(names.contains(topic), topic + " is not listed: " + names);
            });
            case "delete" -> with(settings, admin -> admin.deleteTopics(List.of(topic)).all().get(60, TimeUnit.SECONDS));
            case "configure" -> with(settings, admin -> {
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                var entry = new org.apache.kafka.clients.admin.ConfigEntry("retention.ms", "86400000");
                var set = new org.apache.kafka.clients.admin.AlterConfigOp(entry,
                    org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET);
                admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get(60, TimeUnit.SECONDS);
            });
            case "produce" -> produce(settings, topic, Integer.parseInt(args[3]), Integer.parseInt(args[4]));
            case "consume" -> consume(settings, topic, Integer.parseInt(args[3]));
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    interface Work {
        void on(Admin admin) throws Exception;
    }

    private static void with(Properties settings, Work work) throws Exception {
        try (Admin admin = Admin.create(settings)) {
            work.on(admin);
        }
    }

    private static void produce(Properties settings, String topic, int from, int to) throws Exception {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = from; i < to; i++) {
                producer.send(new ProducerRecord<>(topic, "key-" + i, "value-" + i)).get(60, TimeUnit.SECONDS);
            }
        }
    }

    private static void consume(Properties settings, String topic, int count) {
        settings.put("group.id", "readers-" + System.nanoTime());
        Set<String> values = new TreeSet<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(90);
            while (values.size() < count && System.nanoTime() < end) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    values.add(record.value());
                }
            }
        }
        require(values.size() == count, "found " + values.size() + " of " + count);
    }

    private static void require(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }
}
